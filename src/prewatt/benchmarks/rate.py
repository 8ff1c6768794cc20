"""How many intervals a second are rated on one core, beside what numpy needs at the very least.

The path is the engine's own: quarter-hours of many accounts as UTC instants, looked up in the
calendars of three time zones, cut where a band changes, counted towards monthly steps, divided at
limits, priced, cut off to whole micro-units with the remainders carried on, a day of all accounts
to a batch. The month turns half-way, and every account reaches both limits on either side.

The ceiling is what any such program has to do with numpy on the same columns: multiply each
interval's energy by a price, run the products up, divide them, and write the columns of an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any, Final

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, MINUTE_US, LocalCalendar
from prewatt.core.rating import (
    AccountTerms,
    RatedUsage,
    TimelineSet,
    UsageState,
    compile_timeline,
    rate_usage,
    split_intervals,
)
from prewatt.core.tariff import Tariff, parse_tariff

ZONES: Final = ("Europe/Berlin", "Asia/Shanghai", "America/New_York")
_FIRST_DAY: Final = date(2025, 5, 17)
_QUARTER_US: Final = 15 * MINUTE_US
_PER_DAY: Final = 96
_MOST_WH: Final = 500
_SEED: Final = 20250517

#: Three bands of three steps, as a document.
PLAN: Final[dict[str, Any]] = {
    "format": "prewatt-tariff/1",
    "name": "Three bands of three steps",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {
            "peak": {"prices": ["0.3120", "0.3520", "0.4120"]},
            "flat": {"prices": ["0.2040", "0.2440", "0.3040"]},
            "valley": {"prices": ["0.1280", "0.1680", "0.2280"]},
        },
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "07:00", "band": "valley"},
                    {"from": "07:00", "until": "12:00", "band": "flat"},
                    {"from": "12:00", "until": "20:00", "band": "peak"},
                    {"from": "20:00", "until": "24:00", "band": "valley"},
                ]
            }
        ],
        "steps": {"window": "month", "limits": ["120", "240"]},
    },
}

#: What else a plan can charge by the kWh.
EXTRAS: Final[dict[str, Any]] = {
    "fees": [{"code": "service", "per_kwh": "0.01"}],
    "taxes": [{"code": "vat", "rate": "19"}],
    "allowances": [{"code": "basic", "free_kwh": "50"}],
}


@dataclass(frozen=True, slots=True)
class RateFigures:
    """Medians over rounds of `days` batches. Throughput is by the seconds that a core worked, which
    other programs on the machine do not change; latencies are of one batch, in milliseconds that
    passed. `with_extras_per_second` is with a fee, a tax and free energy as well.
    """

    accounts: int
    days: int
    batch_intervals: int
    rounds: int
    intervals_per_second: int
    ceiling_per_second: int
    ratio: float
    p50: float
    p99: float
    with_extras_per_second: int


def measure(*, accounts: int, days: int, rounds: int) -> RateFigures:
    """Rate some days of quarter-hours, all rounds alike, each from an empty state.

    Raises `AssertionError` if a charge is not the floor of energy × price.
    """
    load = _Load.of(accounts, days)
    plain, extras = (_timelines(parse_tariff(plan)) for plan in (PLAN, PLAN | EXTRAS))
    _check(load, plain)
    times = [_rounds(load, plain) for _ in range(rounds)]
    ceilings = [_ceiling(load) for _ in range(rounds)]
    with_extras = [_rounds(load, extras) for _ in range(rounds)]
    intervals = load.energy_wh.size * days
    rate, ceiling, full = (
        round(median(intervals / sum(each.worked_s for each in timed) for timed in rounds_of))
        for rounds_of in (times, ceilings, with_extras)
    )
    latencies_ms = np.array([each.passed_s for timed in times for each in timed]) * 1000
    p50, p99 = (round(float(np.percentile(latencies_ms, each)), 2) for each in (50, 99))
    return RateFigures(
        accounts=accounts,
        days=days,
        batch_intervals=load.energy_wh.size,
        rounds=rounds,
        intervals_per_second=rate,
        ceiling_per_second=ceiling,
        ratio=round(rate / ceiling, 3),
        p50=p50,
        p99=p99,
        with_extras_per_second=full,
    )


@dataclass(frozen=True, slots=True)
class _Took:
    """How long a batch took: the seconds that the core worked for it, and those that passed."""

    worked_s: float
    passed_s: float


class _Stopwatch:
    def __init__(self) -> None:
        self._worked, self._passed = time.thread_time(), time.perf_counter()

    def stop(self) -> _Took:
        return _Took(time.thread_time() - self._worked, time.perf_counter() - self._passed)


@dataclass(frozen=True, slots=True)
class _Load:
    """A day of quarter-hours of all accounts, sorted by account and time, and how many days."""

    days: int
    account_index: Int64
    timeline_index: Int64
    start_at_us: Int64
    energy_wh: Int64

    @classmethod
    def of(cls, accounts: int, days: int) -> _Load:
        begin = LocalCalendar("UTC").start_of_day(_FIRST_DAY)
        account = np.repeat(np.arange(accounts, dtype=np.int64), _PER_DAY)
        quarters = np.tile(np.arange(_PER_DAY, dtype=np.int64), accounts)
        energy = np.random.default_rng(_SEED).integers(0, _MOST_WH + 1, account.size)
        return cls(days, account, account % len(ZONES), begin + quarters * _QUARTER_US, energy)


def _timelines(tariff: Tariff) -> TimelineSet:
    begin = LocalCalendar("UTC").start_of_day(_FIRST_DAY)
    return TimelineSet.of(
        [
            compile_timeline(tariff, LocalCalendar(zone), begin, begin + 400 * DAY_US)
            for zone in ZONES
        ]
    )


def _rounds(
    load: _Load, timelines: TimelineSet, seen: Callable[[RatedUsage], None] | None = None
) -> list[_Took]:
    """What each day took; `seen` is called outside of it."""
    accounts = int(load.account_index[-1]) + 1
    state, terms = UsageState.empty(accounts, timelines.columns), AccountTerms.plain(accounts)
    took = []
    for day in range(load.days):
        start = load.start_at_us + day * DAY_US
        end = start + _QUARTER_US
        watch = _Stopwatch()
        segments = split_intervals(
            start_at_us=start,
            end_at_us=end,
            energy_wh=load.energy_wh,
            timeline_index=load.timeline_index,
            timelines=timelines,
        )
        rated = rate_usage(
            segments=segments,
            account_index=load.account_index[segments.source_row],
            timelines=timelines,
            terms=terms,
            state=state,
        )
        took.append(watch.stop())
        state = rated.state
        if seen is not None:
            seen(rated)
    return took


def _check(load: _Load, timelines: TimelineSet) -> None:
    """The same days once more, with every charge added up beside energy × price."""
    charged, exact, used = 0, 0, 0

    def seen(rated: RatedUsage) -> None:
        nonlocal charged, exact, used
        charged += int(rated.charge_energy.sum())
        exact += int((rated.energy_wh * rated.price_nano_per_kwh).sum())
        used += int(rated.energy_wh.sum())

    _rounds(load, timelines, seen)
    accounts = int(load.account_index[-1]) + 1
    assert used == int(load.energy_wh.sum()) * load.days
    # Each account may have less than one micro-unit still to come.
    assert 0 <= exact - charged * 10**6 < accounts * 10**6


def _ceiling(load: _Load) -> list[_Took]:
    """What each day's products, running sums, quotients and the copies of its columns took."""
    price = np.full(load.energy_wh.size, 312_000_000, dtype=np.int64)
    small = np.zeros(load.energy_wh.size, dtype=np.int16)
    answer = (load.account_index, load.start_at_us, load.start_at_us, load.energy_wh, price)
    took = []
    for _ in range(load.days):
        watch = _Stopwatch()
        running = np.cumsum(load.energy_wh * price)
        running //= 1_000_000
        for column in (*answer, small, small):
            column.copy()
        took.append(watch.stop())
    return took
