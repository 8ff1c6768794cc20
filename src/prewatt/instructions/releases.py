"""What follows where credit in a meter ends: its account's next meter holds it, and who does not sign is a case for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import Operation
from prewatt.core.vocabulary import WalletEnd
from prewatt.instructions.wallets import WalletRefused, hold_credit, release
from prewatt.notify.alerts import NOT_RELEASED
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.notify.queries import open_of
from prewatt.runtime.prepared import fetch

#: A meter that would cut who must not be cut has to answer within this time, before a person is called.
ANSWER_WITHIN: Final = timedelta(minutes=15)
#: Any other: it may be behind a line that is down over night.
ANSWER_WITHIN_DAYS: Final = timedelta(days=1)
_PER_TURN: Final = 500


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A meter that is to hold no credit any more and has not signed it; ``has_key`` and ``can`` say whether it ever will.

    One that understands the first form of instructions alone cannot be told. So it is where a meter is to hold somebody's
    credit and counts what it held before: that is released first.
    """

    property_id: int
    meter_id: int
    because: WalletEnd
    release_at: datetime
    has_key: bool
    can: bool


def unanswered(*, now: datetime) -> list[Unanswered]:
    """Meters that have not signed their release in time, or never can. Inside the caller's scope."""
    rows = fetch(
        """SELECT * FROM (
               SELECT w.property_id, w.meter_id, coalesce(w.because, %s) AS because,
                   coalesce(w.release_at, w.since) AS release_at, EXISTS (
                   SELECT FROM meter_key k WHERE k.meter_id = w.meter_id AND k.revoked_at IS NULL
                     AND k.valid_from <= %s AND (k.valid_until IS NULL OR k.valid_until > %s)) AS has_key,
                   coalesce(s.understands, 0) = 0 OR s.understands & %s <> 0 AS can, w.state
               FROM meter_wallet w LEFT JOIN instruction_state s ON s.meter_id = w.meter_id
               WHERE w.state = 2
                 -- What it is to hold now waits for the end of what it counts still.
                 OR w.state = 1 AND w.told_micro = w.base_micro AND s.balance_micro IS NOT NULL) AS r
           WHERE NOT has_key OR NOT can OR state = 2 AND release_at <= CASE WHEN because = %s THEN %s ELSE %s END::timestamptz
           ORDER BY meter_id""",
        [
            int(WalletEnd.BY_HAND), now, now, 1 << Operation.RELEASE, int(WalletEnd.PROTECTED), now - ANSWER_WITHIN,
            now - ANSWER_WITHIN_DAYS,
        ],
    )  # fmt: skip
    return [
        Unanswered(place, meter, WalletEnd(because), since, has_key, can)
        for place, meter, because, since, has_key, can, _ in rows
    ]


def tell_of_unanswered(*, actor: Actor, now: datetime) -> int:
    """Call a person to each meter that does not sign its release; the alert ends with the wallet. Returns how many."""
    require(actor, "supply.decide")
    with scope(actor):
        found = {f"meter:{each.meter_id}": each for each in unanswered(now=now)}
        for subject, each in found.items():
            detail = {
                "why": each.because.word,
                "since_us": instant_us(each.release_at),
                "has_key": each.has_key,
                "can": each.can,
            }
            raise_alert(
                property_id=each.property_id, code=NOT_RELEASED, subject=subject, detail=detail, now=now,
            )  # fmt: skip
        for property_id, subject in open_of(NOT_RELEASED):
            if subject not in found:
                close_alert(property_id=property_id, code=NOT_RELEASED, subject=subject, now=now)
    return len(found)


def exchange_credit(
    *, actor: Actor, system: Actor, property_id: int, old_id: int, new_id: int, account_id: int,
    now: datetime,
) -> None:  # fmt: skip
    """Within an exchange: the old meter holds no credit any more, and the new one does if it has a key already.

    Where it gets its key later, `carry_over` finds it. On the word of ``actor``, by the right of ``system``.
    """
    require(actor, "estate.meters", property_id=property_id)
    with scope(actor, deed="estate.meters"):
        was_held = release(meter_id=old_id, because=WalletEnd.EXCHANGED, by=actor.code, now=now)
    if was_held:
        _hold(system, property_id, new_id, account_id, now)


def carry_over(*, actor: Actor, now: datetime) -> int:
    """Let the meters that came in others' places hold the credit that those held, once they have keys; returns how many.

    Not where the account has held credit anywhere since: what a person ended after the exchange stays ended.
    """
    require(actor, "supply.decide")
    with scope(actor):
        rows = fetch(
            """SELECT w.property_id, a.meter_id, w.account_id
               FROM meter_wallet w
               JOIN meter_assignment a ON a.account_id = w.account_id AND a.period @> %s::timestamptz
               JOIN meter_key k ON k.meter_id = a.meter_id AND k.revoked_at IS NULL
                    AND k.valid_from <= %s AND (k.valid_until IS NULL OR k.valid_until > %s)
               WHERE w.because = %s AND NOT EXISTS (
                   SELECT FROM meter_wallet n WHERE n.id > w.id
                     AND (n.account_id = w.account_id OR (n.meter_id = a.meter_id AND n.state < 3)))
               ORDER BY w.id LIMIT %s""",
            [now, now, now, int(WalletEnd.EXCHANGED), _PER_TURN],
        )
        return sum(_hold(actor, place, meter, account, now) for place, meter, account in rows)


def _hold(actor: Actor, property_id: int, meter_id: int, account_id: int, now: datetime) -> bool:
    """Whether the meter holds the account's credit from now on."""
    try:
        hold_credit(
            actor=actor, property_id=property_id, meter_id=meter_id, account_id=account_id, now=now
        )
    except WalletRefused:
        # It has no key yet, or the supply is protected.
        return False
    return True
