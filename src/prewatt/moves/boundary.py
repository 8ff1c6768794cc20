"""The instant at which one payer ends and the next begins, with the register that both share.

A closing reading is judged, rated and charged like any other. It then ends one assignment and one
watermark and begins the next ones with the very same value, so every kilowatt-hour has one payer.

A boundary may lie behind what is charged already, as far back as the present payer's own time and open
books go. What the meters counted after it is then taken back from the former payer and charged to the
next (`billing.passing_on`), and both are rated anew from it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import numpy as np
from django.db import connection

from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.billing.carrying import carry_steps
from prewatt.billing.ingestion import apply_readings
from prewatt.billing.operations import post_usage
from prewatt.billing.passing_on import (
    BoundaryRefused,
    PassedOn,
    charge_on,
    register_at,
    take_back,
)
from prewatt.billing.rerate_requests import LATE_MOVE
from prewatt.billing.rerating import Corrected, counts_at, rerate_moved, tell_customers
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ReadingBatch, ReadingSource
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.estate import operations as estate
from prewatt.estate.models import Tenancy
from prewatt.estate.operations import RegisterValue
from prewatt.ledger.operations import PeriodClosed
from prewatt.moves.hand_readings import heard_by, note_read_by_hand
from prewatt.moves.places import MeterAt, UnitAt
from prewatt.moves.registers import Opening, close_registers, open_registers
from prewatt.moves.words import InFuture, MeterSilent, RegisterRefused, TooEarly

#: As on the board: a meter is silent when it was not heard for this many of its periods.
SILENT_AFTER_PERIODS: Final = 2


@dataclass(frozen=True, slots=True)
class Closing:
    """The registers of a boundary; ``is_read`` where a person or the meter says so, else they are
    interpolated.
    """

    values: Sequence[RegisterValue]
    at: datetime
    is_read: bool = True


@dataclass(frozen=True, slots=True)
class Passed:
    """What a boundary behind the present takes from the former payer; nothing where it is not behind.

    ``back_micro`` came back to the former payer for it.
    """

    usage: tuple[PassedOn, ...] = ()
    back_micro: int = 0

    @property
    def energy_wh(self) -> int:
        """What changes its payer."""
        return sum(each.energy_wh for each in self.usage)


def refuse_instant(
    property_id: int,
    meters: Sequence[MeterAt],
    at: datetime,
    now: datetime,
    *,
    may_lie_behind: bool = False,
) -> None:
    """No move in the future, before the present payer's time, or into closed books.

    Nor behind what is charged already, unless it ``may_lie_behind``.
    """
    if at.tzinfo is None or at > now:
        raise InFuture(f"{at.isoformat()} has not come yet; record a move when it has happened")
    earliest = [_earliest(each, may_lie_behind=may_lie_behind) for each in meters]
    late = max((each for each in earliest if each is not None), default=None)
    if late is not None and at < late:
        raise TooEarly(late)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT l.open_from FROM ledger_period l JOIN property p ON p.id = l.property_id
               WHERE p.id = %s AND %s < l.open_from::timestamp AT TIME ZONE p.time_zone""",
            [property_id, at],
        )
        closed = cursor.fetchone()
    if closed is not None:
        raise PeriodClosed(f"the books are open from {closed[0]}; the move would lie before")


def _earliest(meter: MeterAt, *, may_lie_behind: bool) -> datetime | None:
    """The watermark itself may be the boundary, but a period needs at least one instant."""
    if meter.last_at is None or meter.opened_at is None:
        return None
    begun = meter.opened_at + timedelta(microseconds=1)
    return begun if may_lie_behind else max(meter.last_at, begun)


def between_readings(meters: Sequence[MeterAt], at: datetime) -> list[RegisterValue]:
    """The registers at an instant that the meters have reported, or reported beyond: interpolated.

    Raises MeterSilent for a meter that has not: a person has to read it. The payers are locked.
    """
    values = []
    for each in meters:
        value = each.last_value_wh if each.last_at == at else None
        if value is None and each.account_id is not None:
            value = register_at(account_id=each.account_id, meter_id=each.meter_id, at=at)
        if value is None:
            raise MeterSilent(each.serial, each.last_at)
        values.append(RegisterValue(each.meter_id, value))
    return values


def as_reported(meters: Sequence[MeterAt], now: datetime) -> tuple[list[RegisterValue], datetime]:
    """The registers that the meters reported last, and the instant of the latest of these reports.

    A meter that is silent for longer than two of its periods has to be read by a person: raises
    MeterSilent. Without a meter the instant is now.
    """
    values, instants = [], []
    for each in meters:
        if each.last_at is None or each.last_value_wh is None:
            raise MeterSilent(each.serial, None)
        if now - each.last_at > SILENT_AFTER_PERIODS * timedelta(seconds=each.expected_period_s):
            raise MeterSilent(each.serial, each.last_at)
        values.append(RegisterValue(each.meter_id, each.last_value_wh))
        instants.append(each.last_at)
    return values, max(instants, default=now)


def refuse_overlap(unit: UnitAt, at: datetime) -> None:
    """A unit without meters has no watermark that would tell the end of the last tenancy."""
    last = Tenancy.objects.filter(unit_id=unit.unit_id).order_by("-period").first()
    if last is not None and last.period.upper is not None and at < last.period.upper:
        raise TooEarly(last.period.upper)


def refuse_register(serial: str, value_wh: int, modulus_wh: int) -> None:
    if not 0 <= value_wh < modulus_wh:
        raise RegisterRefused(
            serial, VERDICT_NAMES[Verdict.NEGATIVE if value_wh < 0 else Verdict.IMPLAUSIBLE]
        )


def enter_readings(values: Sequence[RegisterValue], at: datetime, now: datetime) -> list[Verdict]:
    size = len(values)
    heard = heard_by([each.meter_id for each in values])
    applied = apply_readings(
        batch=ReadingBatch.of(
            meter_id=np.array([each.meter_id for each in values], dtype=np.int64),
            read_at_us=np.full(size, instant_us(at), dtype=np.int64),
            value_wh=np.array([each.value_wh for each in values], dtype=np.int64),
            received_at_us=instant_us(now),
            source=ReadingSource.MANUAL,
        ),
        now=now,
    )
    verdicts = [Verdict(each) for each in applied.verdict.tolist()]
    accepted = [
        each.meter_id
        for each, verdict in zip(values, verdicts, strict=True)
        if verdict is Verdict.ACCEPTED
    ]
    if accepted:
        note_read_by_hand(accepted, at, heard=heard)
    return verdicts


def charge_unit(unit: UnitAt, account_id: int, closing: Closing, now: datetime) -> Passed:
    """Charge the present payer up to the closing registers, and no further."""
    meters = {each.meter_id: each for each in unit.meters}
    behind = [each for each in closing.values if _lies_behind(meters[each.meter_id], closing.at)]
    ahead = [each for each in closing.values if each not in behind]
    if ahead:
        charge(meters, ahead, closing.at, now)
    if not behind:
        return Passed()
    before = available(account_id)
    usage = tuple(
        _taken_back(meters[each.meter_id], account_id, each, closing, now) for each in behind
    )
    return Passed(usage, available(account_id) - before)


def _lies_behind(meter: MeterAt, at: datetime) -> bool:
    return meter.last_at is not None and at < meter.last_at


def _taken_back(
    meter: MeterAt, account_id: int, value: RegisterValue, closing: Closing, now: datetime
) -> PassedOn:
    refuse_register(meter.serial, value.value_wh, meter.modulus_wh)
    try:
        return take_back(
            account_id=account_id,
            meter_id=meter.meter_id,
            at=closing.at,
            value_wh=value.value_wh,
            is_read=closing.is_read,
            now=now,
        )
    except BoundaryRefused as refused:
        raise RegisterRefused(meter.serial, VERDICT_NAMES[refused.verdict]) from refused


def pass_on(
    actor: Actor,
    property_id: int,
    from_account_id: int,
    to_account_id: int,
    passed: Passed,
    at: datetime,
    now: datetime,
) -> int:
    """Charge the next payer for what was taken back, and let both accounts' charges follow.

    What both owe by days, demand and bounds, is put right, all of it is posted, and the former
    customer is told. Returns what the next one is charged for the energy, in micro-units. Every
    account and watermark stands as it will after the move.
    """
    if not passed.usage:
        return 0
    before = available(to_account_id)
    for each in passed.usage:
        charge_on(account_id=to_account_id, passed=each, now=now)
    charged = before - available(to_account_id)
    both = sorted({from_account_id, to_account_id})
    post_usage(
        actor=system(actor, property_id),
        account_ids=both,
        until=now,
        cause=LATE_MOVE,
        now=now,
    )
    rerate_moved(actor=system(actor, property_id), account_ids=both, from_at=at, now=now)
    was = sum(each.charged_before_micro for each in passed.usage)
    tell_customers(
        [Corrected(from_account_id, property_id, at, was, was - passed.back_micro)],
        now=now,
        about=f"move:{instant_us(at)}:{from_account_id}",
    )
    return charged


def available(account_id: int) -> int:
    """Posted less accrued, in micro-units."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT available FROM account_state WHERE account_id = %s", [account_id])
        return int(cursor.fetchone()[0])


def charge(
    meters: Mapping[int, MeterAt], closing: Sequence[RegisterValue], at: datetime, now: datetime
) -> None:
    """Apply closing registers; a boundary nobody believes is refused, not held, as it is two's."""
    for value in closing:
        meter = meters[value.meter_id]
        refuse_register(meter.serial, value.value_wh, meter.modulus_wh)
    for value, verdict in zip(closing, enter_readings(closing, at, now), strict=True):
        if verdict not in (Verdict.ACCEPTED, Verdict.DUPLICATE):
            raise RegisterRefused(meters[value.meter_id].serial, VERDICT_NAMES[verdict])


def post(actor: Actor, property_id: int, account_id: int, at: datetime, now: datetime) -> None:
    """Post what was used before the move: on the actor's word, by the system's right to post."""
    post_usage(
        actor=system(actor, property_id),
        account_ids=[account_id],
        until=at,
        cause="move",
        now=now,
    )


def system(actor: Actor, property_id: int) -> Actor:
    """What a move itself brings about needs no duty of the one who moves; the name stays theirs."""
    return Actor(actor.code, Duty.SYSTEM, (property_id,), actor.name, actor.user_id)


def hand_over(
    property_id: int,
    from_account_id: int,
    to_account_id: int,
    closing: Closing,
    passed: Passed,
    now: datetime,
) -> None:
    """The closing value of one account is the opening value of the next, in one transaction.

    A step count goes along where the tariff says that it stays with the unit: as it was at the
    boundary, also where more had been counted since.
    """
    values, at = closing.values, closing.at
    if not values:
        return
    close_registers(account_id=from_account_id, meter_ids=[each.meter_id for each in values], at=at)
    estate.end_assignments(values=values, at=at)
    estate.begin_assignments(
        property_id=property_id, account_id=to_account_id, values=values, at=at
    )
    open_registers(
        openings=[Opening(to_account_id, each.meter_id, at, each.value_wh) for each in values],
        now=now,
    )
    carry_steps(
        from_account_id=from_account_id,
        to_account_id=to_account_id,
        at=at,
        count=partial(counts_at, account_id=from_account_id, at=at) if passed.usage else None,
    )
