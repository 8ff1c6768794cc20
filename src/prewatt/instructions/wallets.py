"""Credit in the meter: what a meter is told to have had, ever, and whether it has what the ledger says.

A meter that holds its account's credit counts it down by its own tariff. It is told its lifetime credit: the sum of
all that moved on the account but for usage, since the meter took over. The sum can fall, when a recharge is taken
back or a daily charge is due; what a meter has had cannot, so less is told of what comes next. Once a day its signed
balance is compared with the ledger's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.accounts import TransferKind
from prewatt.core.instructions import Operation
from prewatt.instructions.models import MeterWallet
from prewatt.instructions.operations import Wanted
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.alerts import BALANCE_DIFFERS
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.runtime.prepared import execute, fetch, integers

#: What a meter counts by itself; everything else that moves on its account it has to be told.
COUNTED_BY_METER: Final = [int(TransferKind.USAGE), int(TransferKind.CORRECTION)]
TOLERANCE_MICRO: Final = 1_000_000
"""So far meter and ledger may be apart: what is used between a reading and an answer, and roundings."""
CHECK_EVERY: Final = timedelta(hours=24)
#: A balance or a reading that is older says nothing about the other.
_TOGETHER: Final = timedelta(hours=2)
#: A meter that was silent for so long is asked how it stands.
_ASK_AFTER: Final = timedelta(hours=20)
_PER_TURN: Final = 500


class WalletRefused(Exception):
    """Nothing was begun. ``reason`` is `not_paying` (the meter is not the account's), `taken` or `protected`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no wallet in the meter: {reason}")
        self.reason = reason


def payer_of(meter_id: int, *, now: datetime) -> int | None:
    """The account that pays by a meter; None where nobody does."""
    found = fetch(
        """SELECT account_id FROM meter_assignment
           WHERE meter_id = %s AND period @> %s::timestamptz ORDER BY account_id LIMIT 1""",
        [meter_id, now],
    )
    return int(found[0][0]) if found else None


def hold_credit(*, actor: Actor, property_id: int, meter_id: int, account_id: int, now: datetime) -> None:  # fmt: skip
    """Let a meter hold its account's credit from now on; what is available now is the first that it is told.

    What a meter has had and used before, for whoever it was, stays in its lifetime. Whose supply is protected keeps its
    credit here: a meter opens its relay at zero and knows of no protection. Raises WalletRefused, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        lock_accounts([account_id])
        found = fetch(
            """SELECT s.transfer_seq,
                      greatest(s.available, 0) + coalesce(i.credit_micro - i.balance_micro, 0),
                      coalesce(i.credit_micro, 0), w.meter_id IS NOT NULL,
                      coalesce(v.protection, '') <> ''
               FROM account_state s
               JOIN meter_assignment a ON a.account_id = s.account_id AND a.meter_id = %s
                    AND a.period @> %s::timestamptz
               LEFT JOIN instruction_state i ON i.meter_id = a.meter_id
               LEFT JOIN meter_wallet w ON w.meter_id = a.meter_id OR w.account_id = s.account_id
               LEFT JOIN supply_state v ON v.account_id = s.account_id
               WHERE s.account_id = %s AND s.property_id = %s""",
            [meter_id, now, account_id, property_id],
        )
        if not found:
            raise WalletRefused("not_paying")
        seq, total_micro, told_micro, is_taken, is_protected = found[0]
        if is_taken or is_protected:
            raise WalletRefused("taken" if is_taken else "protected")
        MeterWallet.objects.create(
            meter_id=meter_id, property_id=property_id, account_id=account_id, since=now,
            seen_seq=seq, total_micro=total_micro, credit_micro=max(total_micro, told_micro),
            told_micro=told_micro,
        )  # fmt: skip
        audit.record(
            actor=actor.code, code="instructions.wallet.begun", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, account=account_id, credit_micro=total_micro,
        )  # fmt: skip


class Wallets:
    """What the head-end asks of the wallets in meters."""

    def __init__(self, actor: Actor) -> None:
        require(actor, "supply.decide")
        self._actor = actor

    def places(self) -> frozenset[int]:
        """The properties where any meter holds credit."""
        with scope(self._actor):
            return frozenset(
                row[0] for row in fetch("SELECT DISTINCT property_id FROM meter_wallet", [])
            )

    def due(self, *, property_ids: Sequence[int] | None, now: datetime) -> list[Wanted]:
        """Add up what moved on the accounts of these properties (None: of all); returns what meters are to be told.

        A meter of which something is under way is left out until that has ended, and one by which the account does not
        pay any more for ever.
        """
        with scope(self._actor):
            places = None if property_ids is None else list(property_ids)
            execute(_ADD_UP, [COUNTED_BY_METER, places, places])
            rows = fetch(_DUE, [now, _PER_TURN])
        return [
            Wanted(meter_id, place, serial, Operation.CREDIT, credit_micro)
            for meter_id, place, serial, credit_micro in rows
        ]

    def silent(self, *, now: datetime) -> list[Wanted]:
        """Meters that have signed nothing for long, to be asked how they stand."""
        with scope(self._actor):
            rows = fetch(
                """SELECT w.meter_id, w.property_id, m.serial FROM meter_wallet w
                   JOIN meter m ON m.id = w.meter_id
                   LEFT JOIN instruction_state s ON s.meter_id = w.meter_id
                   WHERE coalesce(s.verified_at, w.since) < %s AND NOT EXISTS (
                       SELECT FROM instruction i
                       WHERE i.meter_id = w.meter_id AND (i.state IN (1, 2) OR i.issued_at > %s))
                   ORDER BY w.meter_id LIMIT %s""",
                [now - _ASK_AFTER, now - timedelta(hours=1), _PER_TURN],
            )
        return [Wanted(meter, place, serial, Operation.READ) for meter, place, serial in rows]


_ADD_UP: Final = """
UPDATE meter_wallet w
SET seen_seq = n.seq, total_micro = w.total_micro + n.moved,
    credit_micro = greatest(w.credit_micro, w.total_micro + n.moved)
-- Lost, it is added up again: what is signed by it waits for the disk, and it with that.
FROM (SELECT set_config('synchronous_commit', 'off', true)) AS c, (SELECT x.meter_id, s.transfer_seq AS seq, (
          SELECT coalesce(sum(t.amount), 0)::bigint FROM transfer t
          WHERE t.account_id = x.account_id AND t.seq > x.seen_seq AND t.seq <= s.transfer_seq
            AND t.kind <> ALL (%s::smallint[])) AS moved
      FROM (SELECT * FROM meter_wallet
            WHERE %s::bigint[] IS NULL OR property_id = ANY (%s::bigint[])) AS x
      JOIN account_state s ON s.account_id = x.account_id AND s.transfer_seq > x.seen_seq
      ORDER BY x.meter_id) AS n
WHERE w.meter_id = n.meter_id AND w.seen_seq < n.seq
"""
_DUE: Final = """
SELECT w.meter_id, w.property_id, m.serial, w.credit_micro
FROM meter_wallet w JOIN meter m ON m.id = w.meter_id
WHERE w.credit_micro > w.told_micro AND NOT EXISTS (
    SELECT FROM instruction i WHERE i.meter_id = w.meter_id AND i.state IN (1, 2))
  AND EXISTS (
    SELECT FROM meter_assignment a
    WHERE a.meter_id = w.meter_id AND a.account_id = w.account_id AND a.period @> %s::timestamptz)
ORDER BY w.meter_id LIMIT %s
"""


def compare_balances(*, actor: Actor, now: datetime) -> int:
    """Compare each meter's balance with the ledger, once a day each; returns how many were compared.

    A meter that is apart by more than the tolerance raises an alert, which the next comparison that agrees ends.
    Only what was signed and read at about the same time, with nothing on its way to the meter, is compared.
    """
    require(actor, "supply.decide")
    with scope(actor):
        rows: Sequence[tuple[Any, ...]] = fetch(_TO_COMPARE, [now - CHECK_EVERY, _TOGETHER, 1_000])
        compared = [
            (place, meter, account, balance, said_at, expected, abs(balance - expected) > TOLERANCE_MICRO)
            for place, meter, account, balance, said_at, expected in rows
        ]  # fmt: skip
        if not compared:
            return 0
        columns = [list(column) for column in zip(*compared, strict=True)]
        execute(
            """INSERT INTO meter_balance_check (property_id, meter_id, account_id, checked_at,
                   balance_micro, said_at, expected_micro, differs)
               SELECT p, m, a, %s, b, t, e, d
               FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                           %s::timestamptz[], %s::bigint[], %s::boolean[]) AS n(p, m, a, b, t, e, d)""",
            [now, *(integers(each) for each in columns[:4]), columns[4], integers(columns[5]), columns[6]],
        )  # fmt: skip
        for place, meter, _, balance, _, expected, differs in compared:
            subject = f"meter:{meter}"
            if differs:
                detail = {"balance_micro": balance, "expected_micro": expected}
                raise_alert(
                    property_id=place, code=BALANCE_DIFFERS, subject=subject, detail=detail, now=now
                )
            else:
                close_alert(property_id=place, code=BALANCE_DIFFERS, subject=subject, now=now)
    return len(compared)


#: What the meter should have: the ledger's balance, less what the meter was not told yet, or more where it was
#: told of what was taken back since.
_TO_COMPARE: Final = """
SELECT w.property_id, w.meter_id, w.account_id, s.balance_micro, s.said_at,
       a.available - (w.total_micro - w.told_micro)
FROM meter_wallet w
JOIN instruction_state s ON s.meter_id = w.meter_id AND s.balance_micro IS NOT NULL
JOIN account_state a ON a.account_id = w.account_id AND a.transfer_seq = w.seen_seq
WHERE w.told_micro = w.credit_micro AND s.credit_micro = w.told_micro
  AND NOT EXISTS (SELECT FROM meter_balance_check c
                  WHERE c.meter_id = w.meter_id AND c.checked_at > %s)
  AND a.last_interval_at BETWEEN s.said_at - %s AND s.said_at + interval '2 hours'
ORDER BY w.meter_id LIMIT %s
"""
