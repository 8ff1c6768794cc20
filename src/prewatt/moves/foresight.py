"""What a move would do, found by doing it and taking all of it back.

So a person sees the very figures that will be booked, and every refusal, before anything is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from django.db import connection

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.billing.rerate_requests import LATE_MOVE
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.core.readings import ACTIVE_IMPORT

Answer = TypeVar("Answer")

_NOT_CHARGES = [int(TransferKind.REFUND), int(TransferKind.RECHARGE)]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Charges of days that turn out to be somebody else's; ``micro`` comes back to the account."""

    component: Component
    first_day: datetime
    last_day: datetime
    micro: int


@dataclass(frozen=True, slots=True)
class AccountForeseen:
    """One account over the move, in micro-units. ``charged_micro`` is below zero for a charge.

    before + charged + taken back = after. ``energy_wh`` is what is charged that was not before.
    """

    account_id: int
    before_micro: int
    charged_micro: int
    energy_wh: int
    taken_back: tuple[TakenBack, ...]
    after_micro: int

    @property
    def taken_back_micro(self) -> int:
        """What comes back altogether."""
        return sum(each.micro for each in self.taken_back)


@dataclass(frozen=True, slots=True)
class RegisterForeseen:
    """A meter's register at the boundary, and where the account's watermark stood before."""

    meter_id: int
    serial: str
    last_at: datetime | None
    last_wh: int | None
    boundary_wh: int


# Without slots: Python 3.11 cannot make a frozen, generic class with them.
@dataclass(frozen=True)
class Foreseen(Generic[Answer]):
    """The answer that the operation would give, the accounts that it touches, and the registers."""

    answer: Answer
    at: datetime
    accounts: dict[int, AccountForeseen]
    registers: tuple[RegisterForeseen, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    available_micro: int
    transfer_seq: int
    interval_no: int


def foresee(
    *, actor: Actor, unit_id: int, deed: Callable[[str], Answer], at_of: Callable[[Answer], str]
) -> Foreseen[Answer]:
    """Do ``deed`` with a key that nobody else has, look at what it did, and take it back.

    Raises whatever the deed raises.
    """
    require(actor, "moves.tenant")
    with rehearsal():
        with scope(actor):
            before = _standings(unit_id)
            marks = _marks(unit_id)
        answer = deed(f"foresee:{secrets.token_hex(16)}")
        at = datetime.fromisoformat(at_of(answer))
        with scope(actor):
            after = _standings(unit_id)
            accounts = {
                account_id: _foreseen(account_id, was, after[account_id])
                for account_id, was in before.items()
            }
            registers = tuple(
                RegisterForeseen(meter_id, serial, last_at, last_wh, boundary_wh)
                for meter_id, serial, boundary_wh in _boundary(unit_id, at)
                for last_at, last_wh in [marks.get(meter_id, (None, None))]
            )
    return Foreseen(answer, at, accounts, registers)


def _standings(unit_id: int) -> dict[int, _Standing]:
    """Every account of the unit, former tenants' left out."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.account_id, s.available, s.transfer_seq, s.interval_no FROM account_state s
               WHERE s.account_id IN (
                   SELECT account_id FROM tenancy WHERE unit_id = %s
                   UNION SELECT id FROM account WHERE unit_id = %s)""",
            [unit_id, unit_id],
        )
        return {row[0]: _Standing(*row[1:]) for row in cursor.fetchall()}


def _marks(unit_id: int) -> dict[int, tuple[datetime | None, int | None]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.meter_id, s.last_at, s.last_value_wh
               FROM meter_state s
               JOIN installation i ON i.meter_id = s.meter_id AND upper_inf(i.period)
               JOIN metering_point e ON e.id = i.metering_point_id
               WHERE e.unit_id = %s AND s.closed_at = 'infinity' AND s.register_code = %s""",
            [unit_id, int(ACTIVE_IMPORT)],
        )
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def _boundary(unit_id: int, at: datetime) -> list[tuple[int, str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.id, m.serial, a.start_value_wh
               FROM meter_assignment a
               JOIN meter m ON m.id = a.meter_id
               JOIN installation i ON i.meter_id = m.id AND i.period @> %s::timestamptz
               JOIN metering_point e ON e.id = i.metering_point_id
               WHERE e.unit_id = %s AND lower(a.period) = %s ORDER BY m.id""",
            [at, unit_id, at],
        )
        return [(row[0], row[1], row[2]) for row in cursor.fetchall()]


def _foreseen(account_id: int, was: _Standing, now: _Standing) -> AccountForeseen:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT component, min(service_from), max(service_to), sum(amount)::bigint
               FROM transfer
               WHERE account_id = %s AND seq > %s AND corrects_seq IS NOT NULL AND kind <> ALL(%s)
                 AND reason <> %s
               GROUP BY component HAVING sum(amount) <> 0 ORDER BY component""",
            # Usage that changes its payer is said by itself, in the answer of the move.
            [account_id, was.transfer_seq, _NOT_CHARGES, LATE_MOVE],
        )
        back = tuple(
            TakenBack(Component(row[0]), row[1], row[2], row[3]) for row in cursor.fetchall()
        )
        cursor.execute(
            """SELECT coalesce(sum(amount), 0)::bigint FROM transfer
               WHERE account_id = %s AND seq > %s AND kind = ANY(%s)""",
            [account_id, was.transfer_seq, _NOT_CHARGES],
        )
        moved = int(cursor.fetchone()[0])
        cursor.execute(
            """SELECT coalesce(sum(energy_wh), 0)::bigint FROM interval
               WHERE account_id = %s AND interval_no > %s""",
            [account_id, was.interval_no],
        )
        energy = int(cursor.fetchone()[0])
    after = now.available_micro - moved
    return AccountForeseen(
        account_id=account_id,
        before_micro=was.available_micro,
        charged_micro=after - was.available_micro - sum(each.micro for each in back),
        energy_wh=energy,
        taken_back=back,
        after_micro=after,
    )
