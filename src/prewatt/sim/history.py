"""Feeds the demo's history through the real ingest path, with recharges at their own time.

The property's life is replayed in order: readings come in batches of a day, people look at their
balance after each and recharge when few days are left, and the day is posted after its local
midnight. Nobody goes below what they may: who does is cut, and a history cannot cut anybody. Accounts are independent, so two processes feed two halves at once. Readings are applied
with the present clock, as a backlog would be: what they would have caused is stored as would-have
and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise

import numpy as np
from django.db import connection

from prewatt.access.scope import system_actor
from prewatt.billing.ingestion import apply_readings
from prewatt.billing.operations import post_usage
from prewatt.billing.tariffs import TariffBook
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar, instant_us, utc_datetime
from prewatt.core.money import MICRO
from prewatt.core.readings import ReadingBatch
from prewatt.core.tariff import parse_tariff
from prewatt.core.timelines import TimelineSet, compile_timeline
from prewatt.estate.calendars import local_calendar
from prewatt.sim.loads import cumulative_wh, load_profile, scale_ppm_for
from prewatt.sim.property import (
    EMERGENCY_CREDIT,
    HOLIDAYS,
    TIME_ZONE,
    UTC_OFFSET_S,
    DemoUnit,
    tariffs,
)
from prewatt.vending.operations import Recharge, RechargeRefused, recharge

QUARTER_US = 900_000_000
DAY_US = 96 * QUARTER_US
CENT = MICRO // 100
_HOURS_OF_LOOKING = (18,)
_NOTES = (5, 10, 20, 30, 50, 100, 200, 500)
#: Who is to end with little pays only what is needed in these last days.
_LITTLE_DAYS = 14


@dataclass(frozen=True, slots=True)
class HistoryUnit:
    """A unit with the ids it got: what to feed, and how its people end up.

    ``target_micro`` is what they shall have left at the end (None: they recharge as they like);
    ``silent_s`` how long before the end the meter falls silent.
    """

    unit: DemoUnit
    meter_id: int
    account_id: int
    opening_wh: int
    target_micro: int | None = None
    silent_s: int = 0


@dataclass(frozen=True, slots=True)
class Ahead:
    """What lies ahead of somebody who looks at their balance, in micro-units.

    ``next_micro`` is what they will use until they look again, ``rest_micro`` until the end.
    """

    days_left: int
    next_micro: int
    rest_micro: int


def opening_registers(units: Sequence[DemoUnit]) -> dict[str, int]:
    """A believable register for each meter at the start, by serial."""
    return {
        unit.serial: 1_000_000 + number * 7_919_333 % 40_000_000
        for number, unit in enumerate(units)
    }


def registers(unit: DemoUnit, opening_wh: int, opened_us: int, at_us: Int64) -> Int64:
    """The cumulative register of a unit's meter at instants (µs), as its simulated meter has it."""
    profile = load_profile(unit.profile, utc_offset_s=UTC_OFFSET_S)
    scale = scale_ppm_for(profile, unit.annual_kwh)
    start = cumulative_wh(profile, scale, np.array([opened_us], dtype=np.int64))[0]
    counted: Int64 = opening_wh + cumulative_wh(profile, scale, at_us) - start
    return counted


def spent_micro(unit: DemoUnit, opened_us: int, at_us: Int64) -> Int64:
    """What a unit's usage since its opening has cost at each of the quarter-hours ``at_us``.

    To within a micro-unit what rating makes of it: the demo's plans have prices by the hour alone.
    """
    energy = np.diff(registers(unit, 0, opened_us, np.concatenate(([opened_us], at_us))))
    since, until = int(at_us[0]) - QUARTER_US, int(at_us[-1])
    prices = _prices(unit.tariff, since, until)
    segment = prices.segment_at(at_us - QUARTER_US, np.zeros(at_us.size, dtype=np.int64))
    spent: Int64 = np.cumsum(energy * prices.price_nano_per_kwh[segment]) // 1_000_000
    return spent


@cache
def _prices(code: str, since_us: int, until_us: int) -> TimelineSet:
    first, last = utc_datetime(since_us), utc_datetime(until_us)
    calendar = local_calendar(TIME_ZONE, HOLIDAYS, first.year, last.year + 1)
    plan = parse_tariff(tariffs(date(last.year, last.month, last.day))[code])
    return TimelineSet.of([compile_timeline(plan, calendar, since_us, until_us)])


def feed(
    units: Sequence[HistoryUnit],
    *,
    opened_at: datetime,
    until: datetime,
    now: datetime,
    on_day: Callable[[int], None],
) -> None:
    """Feed every quarter-hour after ``opened_at`` up to ``until``, telling each day that is done."""
    opened_us, until_us = instant_us(opened_at), instant_us(until)
    at_us = np.arange(opened_us + QUARTER_US, until_us + 1, QUARTER_US, dtype=np.int64)
    table = np.stack([registers(u.unit, u.opening_wh, opened_us, at_us) for u in units])
    meter_id = np.array([u.meter_id for u in units], dtype=np.int64)
    silent_from = until_us - np.array([u.silent_s for u in units], dtype=np.int64) * 1_000_000
    calendar = LocalCalendar(TIME_ZONE)
    book, day = TariffBook(), 0
    spent = {
        each.account_id: spent_micro(each.unit, opened_us, at_us)
        for each in units
        if each.target_micro is not None
    }
    chunks = _chunks(at_us, calendar)
    looks = [last - 1 for _first, last in chunks]
    for (first, last), following in zip(chunks, [*looks[1:], looks[-1]], strict=True):
        chosen = at_us[first:last]
        speaks = (
            chosen[None, :] <= np.where(silent_from == until_us, until_us + 1, silent_from)[:, None]
        )
        batch = ReadingBatch.of(
            meter_id=np.repeat(meter_id, chosen.size)[speaks.ravel()],
            read_at_us=np.tile(chosen, meter_id.size)[speaks.ravel()],
            value_wh=table[:, first:last].ravel()[speaks.ravel()],
            received_at_us=int(chosen[-1]),
        )
        apply_readings(batch=batch, now=now, book=book)
        at = utc_datetime(int(chosen[-1]))
        midnight = utc_datetime(calendar.start_of_day(calendar.local_date(int(chosen[-1]))))
        if midnight >= utc_datetime(int(chosen[0])) - timedelta(hours=6):
            _post(units, at, midnight)
            day += 1
            on_day(day)
        days_left = (until_us - int(chosen[-1])) // DAY_US
        ahead = {
            account: Ahead(
                days_left,
                int(line[following] - line[last - 1]),
                int(line[-1] - line[last - 1]),
            )
            for account, line in spent.items()
        }
        _recharge(units, at, ahead, is_last=last == at_us.size)


def _chunks(at_us: Int64, calendar: LocalCalendar) -> list[tuple[int, int]]:
    """Half-open index ranges that end when people look at their balance, in the evening."""
    minute = calendar.minute_of_day(at_us)
    ends = np.flatnonzero(np.isin(minute, [60 * hour for hour in _HOURS_OF_LOOKING])) + 1
    bounds = [0, *ends.tolist(), int(at_us.size)]
    return [(a, b) for a, b in pairwise(bounds) if a < b]


def _post(units: Sequence[HistoryUnit], at: datetime, midnight: datetime) -> None:
    post_usage(
        actor=system_actor("posting"),
        now=at,
        until=midnight,
        cause="posting.daily",
        account_ids=[unit.account_id for unit in units],
    )


def _recharge(
    units: Sequence[HistoryUnit], at: datetime, ahead: Mapping[int, Ahead], *, is_last: bool
) -> None:
    """Those who would run out soon recharge within the quarter-hour that follows ``at``."""
    wishes: list[Recharge] = []
    balances = _balances([unit.account_id for unit in units])
    for number, unit in enumerate(units):
        available, per_day = balances[unit.account_id]
        amount = _wanted(unit, number, available, per_day, ahead.get(unit.account_id))
        if amount <= 0:
            continue
        paid_at = at if is_last else at + timedelta(seconds=unit.account_id * 37 % 300)
        way = ("cash", "online", "transfer")[unit.account_id % 5 % 3]
        reference = f"FC-{unit.account_id * 7919 % 100_000:05d}"
        key = f"history-{unit.account_id}-{instant_us(at)}"
        wishes.append(Recharge(key, unit.account_id, amount, way, reference, paid_at))
    taken_at = at if is_last else at + timedelta(minutes=5)
    answers = recharge(
        actor=system_actor("history"), recharges=wishes, now=taken_at, announce=False
    )
    for answer in answers:
        if isinstance(answer, RechargeRefused):
            raise AssertionError(f"the history's own recharge was refused: {answer.message}")


def _wanted(
    unit: HistoryUnit, number: int, available: int, per_day: int, ahead: Ahead | None
) -> int:
    """How much this household pays now, in micro-units: whole notes, or what is just missing.

    Who is to end with little never pays past that, and in the last fortnight only what is needed:
    nobody goes below zero by more than their emergency credit, because whoever does is cut.
    """
    patience_days = 3 + number * 5 % 4 if number % 9 else 2
    is_content = available > patience_days * per_day and available > 2 * MICRO
    usual = 0 if is_content else _note(per_day * (7 + number * 3 % 9))
    if ahead is None or unit.target_micro is None:
        return usual
    missing = max(0, -(-(unit.target_micro + ahead.rest_micro - available) // CENT) * CENT)
    if ahead.days_left > _LITTLE_DAYS:
        return min(usual, missing)
    least = max(min(0, unit.target_micro), -EMERGENCY_CREDIT * MICRO)
    short = least + ahead.next_micro - available
    is_last_look = ahead.next_micro == ahead.rest_micro
    if ahead.rest_micro == 0 or (short <= 0 and not is_last_look):
        return 0
    return missing if is_last_look else min(_note(max(short, MICRO)), missing)


def _note(amount: int) -> int:
    """The smallest sum people pay that covers ``amount``."""
    return next((note * MICRO for note in _NOTES if note * MICRO >= amount), _NOTES[-1] * MICRO)


def _balances(account_ids: Sequence[int]) -> Mapping[int, tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, available, spend_per_day FROM account_state WHERE account_id = ANY(%s)",
            [list(account_ids)],
        )
        return {int(row[0]): (int(row[1]), int(row[2])) for row in cursor.fetchall()}
