"""Feeds the demo's history through the real ingest path, with recharges at their own time.

The property's life is replayed in order: readings come in batches of a day, people look at their
balance after each and recharge when few days are left, and the day is posted after its local
midnight. Accounts are independent, so two processes feed two halves at once. Readings are applied
with the present clock, as a backlog would be: what they would have caused is stored as would-have
and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from prewatt.sim.loads import cumulative_wh, load_profile, scale_ppm_for
from prewatt.sim.property import TIME_ZONE, UTC_OFFSET_S, DemoUnit
from prewatt.vending.operations import Recharge, RechargeRefused, recharge

QUARTER_US = 900_000_000
DAY_US = 96 * QUARTER_US
CENT = MICRO // 100
_HOURS_OF_LOOKING = (18,)
_NOTES = (5, 10, 20, 30, 50, 100, 200, 500)


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
    for first, last in _chunks(at_us, calendar):
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
        _recharge(
            units, at, days_left=(until_us - int(chosen[-1])) // DAY_US, is_last=last == at_us.size
        )


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


def _recharge(units: Sequence[HistoryUnit], at: datetime, *, days_left: int, is_last: bool) -> None:
    """Those who would run out soon recharge within the quarter-hour that follows ``at``."""
    wishes: list[Recharge] = []
    balances = _balances([unit.account_id for unit in units])
    for number, unit in enumerate(units):
        available, per_day = balances[unit.account_id]
        amount = _wanted(unit, number, available, per_day, days_left=days_left, is_last=is_last)
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
    unit: HistoryUnit, number: int, available: int, per_day: int, *, days_left: int, is_last: bool
) -> int:
    """How much this household pays now, in micro-units; whole notes, or to the cent at the end.

    Who is to end with little stops recharging a fortnight before, but for a small note in need; never
    for more than is missing to that little, so that the last payment can meet it to the cent.
    """
    if unit.target_micro is not None and days_left <= 14:
        short = unit.target_micro - available
        if is_last:
            return -(-short // CENT) * CENT
        note = _NOTES[0] * MICRO
        return note if short > max(per_day, note) else 0
    patience_days = 3 + number * 5 % 4 if number % 9 else 2
    if available > patience_days * per_day and available > 2 * MICRO:
        return 0
    return _note(per_day * (7 + number * 3 % 9))


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
