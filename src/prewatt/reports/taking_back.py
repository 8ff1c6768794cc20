"""Reads a recharge that is to be taken back, or was: whose it is, what it was, what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.access.scope import Actor, scope
from prewatt.core.accounts import TransferKind
from prewatt.debts.policy import policy_of
from prewatt.debts.words import Policy
from prewatt.reports.holders import Holding, holding_of
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import FACADE, UNIT_NOW, looking_at_all


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
