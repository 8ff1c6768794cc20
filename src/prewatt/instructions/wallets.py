"""Credit in the meter: what a meter is told to have had, ever, and whether it has what the ledger says.

A meter that holds its account's credit counts it down by its own tariff. It is told its lifetime credit: all that it
ever had before, what was available when it began to count, and all that moved on the account since but for usage. The
sum can fall, when a recharge is taken back or a daily charge is due; what a meter has had cannot, so less is told of what
comes next. Once a day its signed balance is compared with the ledger's.

It ends when somebody else pays by the meter, when the meter is taken down, when the supply is protected, or on a
person's word: the meter is told of no more credit, and told that it holds none, until it has signed that it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.accounts import TransferKind
from prewatt.core.instructions import Operation
from prewatt.core.vocabulary import WalletEnd, WalletState
from prewatt.instructions.models import MeterWallet
from prewatt.instructions.operations import Wanted
from prewatt.instructions.queries import has_key
from prewatt.instructions.sessions import takes_short_form
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.alerts import BALANCE_DIFFERS
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.runtime.bells import ring
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
#: A meter that has not signed its release for so long is told once an hour.
_GIVEN_UP_AFTER: Final = timedelta(days=1)
_RARELY: Final = timedelta(hours=1)


class WalletRefused(Exception):
    """Nothing was done. ``reason`` is one of `REFUSED`."""

    def __init__(self, reason: str) -> None:
        super().__init__(REFUSED[reason])
        self.reason = reason


REFUSED: Final = {
    "not_paying": "nobody pays by this meter, or another account",
    "taken": "the meter or the account has a wallet that has not ended",
    "protected": "a protected supply keeps its credit here: a meter opens its relay at zero",
    "no_key": "a meter without a valid key cannot be told of credit; enrol it first",
    "short_form": "answers of the short form tell no balance, so nothing could be compared",
    "counts": "the meter counts credit of before still, and knows no instruction that ends it",
    "none": "this meter holds no credit",
    "not_asked": "the meter was not told yet that it holds no credit",
    "no_note": "say why, in at most 200 printable characters",
}
NOTE_MAX: Final = 200


def payer_of(meter_id: int, *, now: datetime) -> int | None:
    """The account that pays by a meter; None where nobody does."""
    found = fetch(
        """SELECT account_id FROM meter_assignment
           WHERE meter_id = %s AND period @> %s::timestamptz ORDER BY account_id LIMIT 1""",
        [meter_id, now],
    )
    return int(found[0][0]) if found else None


def hold_credit(*, actor: Actor, property_id: int, meter_id: int, account_id: int, now: datetime) -> None:  # fmt: skip
    """Let a meter hold its account's credit from now on; what is available when it is told is the first that it has.

    What a meter has had before, for whoever it was, stays in its lifetime. Whose supply is protected keeps its
    credit here: a meter opens its relay at zero and knows of no protection. Raises WalletRefused, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        if takes_short_form(meter_id):
            raise WalletRefused("short_form")
        lock_accounts([account_id])
        found = fetch(
            """SELECT s.transfer_seq, s.available, coalesce(i.credit_micro, 0), w.id IS NOT NULL,
                      coalesce(v.protection, '') <> '', i.balance_micro IS NOT NULL
                      AND i.understands <> 0 AND i.understands & %s = 0
               FROM account_state s
               JOIN meter_assignment a ON a.account_id = s.account_id AND a.meter_id = %s
                    AND a.period @> %s::timestamptz
               LEFT JOIN instruction_state i ON i.meter_id = a.meter_id
               LEFT JOIN meter_wallet w ON (w.meter_id = a.meter_id AND w.state < 3)
                    OR (w.account_id = s.account_id AND w.state = 1)
               LEFT JOIN supply_state v ON v.account_id = s.account_id
               WHERE s.account_id = %s AND s.property_id = %s""",
            [1 << Operation.RELEASE, meter_id, now, account_id, property_id],
        )
        if not found:
            raise WalletRefused("not_paying")
        seq, available_micro, base_micro, is_taken, is_protected, counts_for_ever = found[0]
        if is_taken or is_protected:
            raise WalletRefused("taken" if is_taken else "protected")
        if counts_for_ever:
            raise WalletRefused("counts")
        if not has_key([meter_id], now=now):
            raise WalletRefused("no_key")
        total_micro = base_micro + available_micro
        execute(
            """INSERT INTO meter_wallet (meter_id, property_id, account_id, since, seen_seq, total_micro,
                   credit_micro, told_micro, base_micro) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                meter_id, property_id, account_id, now, seq, total_micro, max(total_micro, base_micro),
                base_micro, base_micro,
            ],
        )  # fmt: skip
        audit.record(
            actor=actor.code, code="instructions.wallet.begun", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, account=account_id, credit_micro=available_micro,
        )  # fmt: skip
        ring("changed", [property_id])


def release_credit(*, actor: Actor, property_id: int, meter_id: int, now: datetime) -> None:
    """Let a meter hold no credit any more: it is told of none from now on, and told so until it has signed it.

    Raises WalletRefused (`none`), PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        if not _release(_HELD_BY, [meter_id, property_id], WalletEnd.BY_HAND, actor.code, now):
            raise WalletRefused("none")
        ring("changed", [property_id])


def end_without_answer(
    *, actor: Actor, property_id: int, meter_id: int, note: str, now: datetime
) -> None:
    """End the wallet of a meter that was released and does not sign it: it is gone, or its key is.

    What it still has of credit is void nowhere but here. Raises WalletRefused (`none`, `not_asked`, `no_note`),
    PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    note = note.strip()
    if not note or len(note) > NOTE_MAX or not note.isprintable():
        raise WalletRefused("no_note")
    with scope(actor):
        wallet = (
            MeterWallet.objects.select_for_update()
            .filter(meter_id=meter_id, property_id=property_id, state__lt=int(WalletState.ENDED))
            .first()
        )
        if wallet is None or wallet.state == WalletState.HELD:
            raise WalletRefused("none" if wallet is None else "not_asked")
        MeterWallet.objects.filter(pk=wallet.pk).update(
            state=int(WalletState.ENDED), ended_at=now, ended_by=actor.code, end_note=note
        )
        audit.record(
            actor=actor.code, code="instructions.wallet.ended", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, account=wallet.account_id, reason=note,
        )  # fmt: skip
        ring("changed", [property_id])


_HELD_BY: Final = "w.meter_id = %s AND w.property_id = %s"
#: Whose time is over, however that came: first that a meter would cut who must not be cut.
_PROTECTED: Final = """EXISTS (
    SELECT FROM supply_state v WHERE v.account_id = w.account_id AND v.protection <> '')"""
_PAYS: Final = """SELECT FROM meter_assignment a
    WHERE a.meter_id = w.meter_id AND a.period @> %s::timestamptz"""
_MOVED: Final = f"EXISTS ({_PAYS} AND a.account_id <> w.account_id)"
_TAKEN_DOWN: Final = f"NOT EXISTS ({_PAYS})"
_NO_KEY: Final = """NOT EXISTS (
    SELECT FROM meter_key k WHERE k.meter_id = w.meter_id AND k.revoked_at IS NULL
      AND k.valid_from <= %s AND (k.valid_until IS NULL OR k.valid_until > %s))"""


def release(*, meter_id: int, because: WalletEnd, by: str, now: datetime) -> bool:
    """Within an operation that ends what a meter holds credit for; returns whether it held any."""
    return _release("w.meter_id = %s", [meter_id], because, by, now) > 0


def _release(which: str, values: Sequence[Any], because: WalletEnd, by: str, now: datetime) -> int:
    """Have these wallets released; returns how many. Inside the caller's scope."""
    rows = fetch(
        f"""UPDATE meter_wallet w SET state = 2, because = %s, release_at = %s, release_by = %s
            WHERE w.state = 1 AND {which} RETURNING w.property_id, w.meter_id, w.account_id""",  # noqa: S608 - our own
        [int(because), now, by, *values],
    )
    for property_id, meter_id, account_id in rows:
        audit.record(
            actor=by, code="instructions.wallet.released", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, account=account_id, because=because.word,
        )  # fmt: skip
    return len(rows)


class Wallets:
    """What the head-end asks of the wallets in meters."""

    def __init__(self, actor: Actor) -> None:
        require(actor, "supply.decide")
        self._actor = actor

    def places(self) -> frozenset[int]:
        """The properties where any meter holds credit."""
        with scope(self._actor):
            return frozenset(
                row[0]
                for row in fetch(
                    "SELECT DISTINCT property_id FROM meter_wallet WHERE state < 3", []
                )
            )

    def due(self, *, property_ids: Sequence[int] | None, now: datetime) -> list[Wanted]:
        """Add up what moved on the accounts of these properties (None: of all); returns what meters are to be told.

        A meter of which something is under way is left out until that has ended, and for minutes one that refuses all that
        it is told. One by which its account does not pay
        any more, or whose supply is protected now, is to hold no credit any more.
        """
        with scope(self._actor):
            places = None if property_ids is None else list(property_ids)
            self._release_whose_time_is_over(places, now)
            execute(_ADD_UP, [places, places, COUNTED_BY_METER])
            rows = fetch(
                _DUE, [now, now, _PER_TURN, now, now - _GIVEN_UP_AFTER, now - _RARELY, _PER_TURN]
            )
        return [
            Wanted(meter_id, place, serial, Operation(operation), argument)
            for meter_id, place, serial, operation, argument in rows
        ]

    def _release_whose_time_is_over(self, places: list[int] | None, now: datetime) -> None:
        there = "(%s::bigint[] IS NULL OR w.property_id = ANY (%s::bigint[])) AND "
        for which, at, because in (
            (_PROTECTED, [], WalletEnd.PROTECTED),
            (_MOVED, [now], WalletEnd.MOVED),
            (_TAKEN_DOWN, [now], WalletEnd.EXCHANGED),
            (_NO_KEY, [now, now], WalletEnd.NO_KEY),
        ):
            _release(there + which, [places, places, *at], because, self._actor.code, now)

    def silent(self, *, now: datetime) -> list[Wanted]:
        """Meters that have signed nothing for long, to be asked how they stand."""
        with scope(self._actor):
            rows = fetch(
                """SELECT w.meter_id, w.property_id, m.serial FROM meter_wallet w
                   JOIN meter m ON m.id = w.meter_id
                   LEFT JOIN instruction_state s ON s.meter_id = w.meter_id
                   WHERE w.state = 1 AND coalesce(s.verified_at, w.since) < %s AND NOT EXISTS (
                       SELECT FROM instruction i
                       WHERE i.meter_id = w.meter_id AND (i.state IN (1, 2) OR i.issued_at > %s))
                   ORDER BY w.meter_id LIMIT %s""",
                [now - _ASK_AFTER, now - timedelta(hours=1), _PER_TURN],
            )
        return [Wanted(meter, place, serial, Operation.READ) for meter, place, serial in rows]


# Lost, it is added up again: what is signed by it waits for the disk, and it with that.
_ADD_UP: Final = """
SELECT add_up_wallets(ARRAY(
    SELECT w.meter_id FROM meter_wallet w
    WHERE w.state = 1 AND (%s::bigint[] IS NULL OR w.property_id = ANY (%s::bigint[]))
    ORDER BY w.meter_id), %s::smallint[])
FROM (SELECT set_config('synchronous_commit', 'off', true)) AS c
"""
#: Credit for those that hold it; first its end for one that still counts for whom it held it before (7 is RELEASE, 2
#: CREDIT). And the end for all that are to hold none, until they sign it: those that never do are told rarely.
_DUE: Final = """
(SELECT w.meter_id, w.property_id, m.serial, CASE WHEN x.counts THEN 7 ELSE 2 END,
        CASE WHEN x.counts THEN 0 ELSE w.credit_micro END
 FROM meter_wallet w JOIN meter m ON m.id = w.meter_id
 LEFT JOIN instruction_state s ON s.meter_id = w.meter_id
 CROSS JOIN LATERAL (
     SELECT w.told_micro = w.base_micro AND s.balance_micro IS NOT NULL AS counts) AS x
 WHERE w.credit_micro > w.told_micro AND w.state = 1 AND NOT EXISTS (
     SELECT FROM instruction i WHERE i.meter_id = w.meter_id AND i.state IN (1, 2))
   AND NOT refuses_all(w.meter_id, %s)
   AND EXISTS (
     SELECT FROM meter_assignment a
     WHERE a.meter_id = w.meter_id AND a.account_id = w.account_id AND a.period @> %s::timestamptz)
 ORDER BY w.meter_id LIMIT %s)
UNION ALL
(SELECT w.meter_id, w.property_id, m.serial, 7, 0
 FROM meter_wallet w JOIN meter m ON m.id = w.meter_id
 WHERE w.state = 2 AND NOT refuses_all(w.meter_id, %s) AND NOT EXISTS (
     SELECT FROM instruction i WHERE i.meter_id = w.meter_id AND i.operation IN (0, 7)
       AND (i.state IN (1, 2) OR (w.release_at < %s AND i.state = 5 AND i.issued_at > %s)))
 ORDER BY w.release_at LIMIT %s)
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
WHERE w.state = 1 AND w.told_micro = w.credit_micro AND s.credit_micro = w.told_micro
  AND NOT EXISTS (SELECT FROM meter_balance_check c
                  WHERE c.meter_id = w.meter_id AND c.checked_at > %s)
  AND a.last_interval_at BETWEEN s.said_at - %s AND s.said_at + interval '2 hours'
ORDER BY w.meter_id LIMIT %s
"""
