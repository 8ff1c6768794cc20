"""Reads a recharge that is to be taken back, or was: whose it is, what it was, what became of it.

What taking it back would do is found by doing it and taking all of that back again, so a look says
exactly what the deed makes of wallet, emergency credit, debts and supply.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.approvals.operations import Wanted, rehearse
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.vocabulary import Protection, RelayState
from prewatt.debts.policy import policy_of
from prewatt.debts.words import Policy
from prewatt.reports.account import GateLine
from prewatt.reports.holders import Holding, Who, holding_of
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.rules import cut_rules, gates_now, standing_of
from prewatt.reports.today import Place
from prewatt.reports.units import FACADE, UNIT_NOW, looking_at_all
from prewatt.vending.taking_back import TakenBack, move_credit, reverse_recharge


@dataclass(frozen=True, slots=True)
class TakenBackAlready:
    """How a recharge was taken back; ``to`` is who has it instead, None for a reversal."""

    event_id: int
    at: datetime
    by: str
    document: str
    to: Holding | None
    debt_id: int | None
    debt_code: str
    debt_micro: int


@dataclass(frozen=True, slots=True)
class RechargeFacts:
    """A recharge, and what happened to it since."""

    place: Place
    now: datetime
    event_id: int
    holding: Holding
    amount_micro: int
    way: str
    at: datetime
    by: str
    receipt: str
    policy: Policy
    taken_back: TakenBackAlready | None


def recharge_facts(*, actor: Actor, event_id: int, now: datetime) -> RechargeFacts:
    """A committed recharge. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT p.account_id, p.amount_micro, p.way, p.accepted_at, p.taken_by,
                      coalesce(d.series || '-' || d.number, '')
               FROM payment p
               LEFT JOIN document d ON d.event_id = p.event_id AND d.kind = 'receipt'
               WHERE p.event_id = %s AND p.property_id = %s""",
            [event_id, place.property_id],
        )
        if not found:
            raise NoSuchThing(f"no recharge {event_id} in scope")
        account_id, amount, way, at, by, receipt = found[0]
        holding = holding_of(actor, account_id)
        taken = taken_back(actor, account_id, event_id)
        names = actor_names([by])
        policy = policy_of(place.property_id)
    return RechargeFacts(
        place, now, event_id, holding, amount, way, at, names.get(by, ""), receipt, policy, taken
    )


@dataclass(frozen=True, slots=True)
class Purse:
    """What an account has and owes: its balance, what of its emergency credit is in use, its debts."""

    available_micro: int
    emergency_micro: int
    debts_micro: int

    @property
    def emergency_used_micro(self) -> int:
        """What of its emergency credit is in use."""
        return min(self.emergency_micro, max(0, -self.available_micro))


@dataclass(frozen=True, slots=True)
class Side:
    """An account before and after a recharge is taken back, and what becomes of its supply.

    ``supply`` is ``closed`` (its customer has left), ``owner`` (a vacant unit's), ``stays_cut``,
    ``connects``, ``protected``, ``used_up`` (then ``gates`` says what a cut still waits for),
    ``emergency`` or ``on``.
    """

    who: Who
    before: Purse
    after: Purse
    supply: str
    gates: tuple[GateLine, ...]


@dataclass(frozen=True, slots=True)
class TakingBack:
    """What taking a recharge back would do: its answer, its accounts, its transfers in their order.

    A transfer is (account, kind, counter-account, amount, balance after, debt's code).
    """

    answer: TakenBack
    sides: tuple[Side, ...]
    transfers: tuple[tuple[int, TransferKind, CounterAccount, int, int, str], ...]


def foresee_taking_back(*, actor: Actor, wanted: Wanted, why: str, now: datetime) -> TakingBack:
    """What taking a recharge back as ``wanted`` would do; nothing stays done.

    Raises as ``reverse_recharge`` and ``move_credit`` do.
    """
    require(actor, "vending.take_back", property_id=wanted.property_id)
    event_id, to_account_id = int(wanted.effect["recharge"]), wanted.effect["to"]
    given: dict[str, Any] = {
        "actor": actor, "event_id": event_id, "why": why, "key": "look", "now": now,
    }  # fmt: skip
    with rehearsal():
        with scope(actor):
            before = {each: _seen(each) for each in _accounts_of(event_id, to_account_id)}
            rehearse(wanted)
        if to_account_id is None:
            answer = reverse_recharge(**given)
        else:
            answer = move_credit(to_account_id=to_account_id, **given)
        with scope(actor):
            sides = tuple(_side(actor, each, seen, now) for each, seen in before.items())
            written = _written(answer)
    return TakingBack(answer, sides, written)


def _accounts_of(event_id: int, to_account_id: int | None) -> list[int]:
    """Whose recharge it is, and who is to have it; nobody where there is no such recharge."""
    found = [each for (each,) in rows(
        "SELECT account_id FROM payment WHERE event_id = %s", [event_id]
    )]  # fmt: skip
    return found if to_account_id is None else [*found, to_account_id]


@dataclass(frozen=True, slots=True)
class _Seen:
    """An account's purse, and how its supply stands; ``is_wanted`` None where it has none."""

    purse: Purse
    is_closed: bool
    is_vacant: bool
    protection: str
    is_wanted: bool | None


def _seen(account_id: int) -> _Seen:
    found = rows(
        """SELECT s.available,
                  CASE WHEN a.closed_at IS NULL THEN coalesce(p.emergency_micro, 0) ELSE 0 END,
                  (SELECT coalesce(sum(t.amount), 0)::bigint FROM transfer t
                   WHERE t.account_id = s.account_id AND t.counter_account = %s),
                  a.closed_at IS NOT NULL, a.kind, coalesce(p.protection, ''), p.desired
           FROM account_state s JOIN account a ON a.id = s.account_id
           LEFT JOIN supply_state p ON p.account_id = s.account_id
           WHERE s.account_id = %s""",
        [int(CounterAccount.DEBTS), account_id],
    )
    if not found:
        raise NoSuchThing(f"no account {account_id} in scope")
    available, emergency, debts, closed, kind, protection, desired = found[0]
    return _Seen(
        Purse(available, emergency, debts), closed, kind == "vacancy", protection,
        None if desired is None else RelayState(desired) is RelayState.CLOSED,
    )  # fmt: skip


def _side(actor: Actor, account_id: int, before: _Seen, now: datetime) -> Side:
    holding, after = holding_of(actor, account_id), _seen(account_id)
    supply = _supply(before, after)
    gates: tuple[GateLine, ...] = ()
    standing = standing_of(account_id)
    if supply == "used_up" and standing is not None:
        cut = cut_rules(standing.property_id, now)
        gates = gates_now(standing, cut, relay=RelayState.CLOSED, now=now)
    return Side(holding.who, before.purse, after.purse, supply, gates)


def _supply(before: _Seen, after: _Seen) -> str:
    """The word for what becomes of a supply, see `Side`."""
    purse = after.purse
    if after.is_closed:
        return "closed"
    if after.is_vacant or after.is_wanted is None:
        return "owner"
    if not after.is_wanted:
        return "stays_cut"
    if not before.is_wanted:
        return "connects"
    if purse.available_micro > -purse.emergency_micro:
        return "on" if purse.available_micro > 0 else "emergency"
    is_protected = after.protection and Protection[after.protection.upper()] is not Protection.NONE
    return "protected" if is_protected else "used_up"


def _written(
    answer: TakenBack,
) -> tuple[tuple[int, TransferKind, CounterAccount, int, int, str], ...]:
    found = rows(
        """SELECT account_id, kind, counter_account, amount, posted_after, code
           FROM transfer WHERE account_id = ANY(%s) AND event_id = %s
           ORDER BY account_id <> %s, seq""",
        [
            [answer.account_id, answer.to_account_id or answer.account_id],
            answer.event_id,
            answer.account_id,
        ],
    )
    return tuple(
        (account, TransferKind(kind), CounterAccount(counter), amount, after, code)
        for account, kind, counter, amount, after, code in found
    )


def taken_back(actor: Actor, account_id: int, event_id: int) -> TakenBackAlready | None:
    """How a recharge was taken back, inside the caller's scope; None where it stands."""
    found = rows(
        """SELECT c.event_id, c.booked_at, c.actor, coalesce(v.series || '-' || v.number, ''),
                  (SELECT (e.detail->'taken'->>'to_account_id')::bigint FROM audit_event e
                   WHERE e.property_id = c.property_id AND e.code = 'vending.recharge.taken_back'
                     AND e.subject = 'account:' || c.account_id
                     AND (e.detail->'taken'->>'event_id')::bigint = c.event_id LIMIT 1),
                  b.id, coalesce(b.code, ''), coalesce(b.principal_micro, 0)
           FROM transfer r
           JOIN transfer c ON c.account_id = r.account_id AND c.corrects_event_id = r.event_id
               AND c.corrects_seq = r.seq
           LEFT JOIN document v ON v.event_id = c.event_id AND v.series = 'V'
           LEFT JOIN debt b ON b.origin_event_id = c.event_id AND b.account_id = c.account_id
           WHERE r.account_id = %s AND r.event_id = %s AND r.kind = %s LIMIT 1""",
        [account_id, event_id, int(TransferKind.RECHARGE)],
    )
    if not found:
        return None
    event, at, by, document, to, debt_id, debt_code, debt_micro = found[0]
    names = actor_names([by])
    return TakenBackAlready(
        event, at, names.get(by, ""), document, None if to is None else holding_of(actor, to),
        debt_id, debt_code, debt_micro,
    )  # fmt: skip


def accounts_named(*, actor: Actor, text: str, now: datetime) -> list[int]:
    """Open customers' accounts of which unit, account number or meter is exactly this text."""
    with scope(actor):
        place = place_of(actor)
        with looking_at_all():
            found = rows(
                f"""SELECT account_id FROM {UNIT_NOW} AS unit_now
                    WHERE paying AND lower(%(text)s) IN (lower(name), lower(number), lower(serial))
                    ORDER BY {", ".join(FACADE)}""",  # noqa: S608 - our own relation
                {"property": place.property_id, "now": now, "text": text.strip()},
            )
    return [account for (account,) in found]
