"""A property's supply rules changed by people: one proposes, others agree, and all is decided anew.

The rules have a version. Whoever changes them says which version they saw; if somebody was quicker,
nothing is changed. Rules and everything that hangs on them change in one transaction, which holds
every account of the property, so that no decision is made of half of a change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.runtime.bells import ring
from prewatt.supply import queries
from prewatt.supply.operations import SupplyRefused, watch_everybody
from prewatt.supply.policy import PolicyRefused, Rules, refuse_out_of_bounds, refuse_unfair

KIND: Final = "supply.rules"
CHANGED: Final = "supply.rules.changed"
REASON_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """The new version, how many accounts are decided anew, and how many cuts were called back.

    Those are cuts that were ordered and not yet sent to their meter.
    """

    version: int
    decided_anew: int
    called_back: int


def drafted(*, actor: Actor, property_id: int, body: Mapping[str, Any], now: datetime) -> Rules:
    """The rules that a body would be at the property; changes nothing.

    Raises `RuleRefused` with the rule and the reason, `PolicyRefused` for a body that is no rules at all.
    """
    require(actor, "supply.rules", property_id=property_id)
    refuse_out_of_bounds(body)
    with scope(actor):
        rules = queries.rules_of(property_id, body, now)
    refuse_unfair(rules, instant_us(now))
    return rules


def wanted_rules(
    *, actor: Actor, property_id: int, version: int, body: Mapping[str, Any], now: datetime
) -> Wanted:
    """What proposing other rules would ask for: the rules before and after, word for word.

    ``version`` is that of the rules which the change was made of, 0 where none were stored. Raises
    `RuleRefused`, `PolicyRefused`, PermissionRefused, and `SupplyRefused`: ``same_rules``, ``stale``.
    """
    drafted(actor=actor, property_id=property_id, body=body, now=now)
    with scope(actor):
        before = queries.stored_rules(property_id)
        _refuse(before, version, body)
        return wanted_change(
            kind=KIND, property_id=property_id, subject="rules",
            effect={"version": version, "before": before.body, "rules": dict(body)},
        )  # fmt: skip


def change_rules(
    *,
    actor: Actor,
    property_id: int,
    version: int,
    body: Mapping[str, Any],
    reason: str,
    made_by: str,
    now: datetime,
) -> RulesChanged:
    """Put other rules in force from now on, and have every cut that waits decided by them.

    In the transaction in which ``actor`` agreed to what ``made_by`` proposed, for the database asks for
    that. A cut that was ordered and not sent yet is called back and decided like one that waits. Raises
    `RuleRefused`, `PolicyRefused`, PermissionRefused, Changed, and `SupplyRefused`: ``same_rules``,
    ``stale`` if the rules are of another version by now.
    """
    drafted(actor=actor, property_id=property_id, body=body, now=now)
    with scope(actor):
        watch_everybody(property_id)
        before = queries.stored_rules(property_id)
        _refuse(before, version, body)
        after = _write(property_id, version, body, now)
        called_back = _call_back(property_id, now)
        changed = RulesChanged(after, _decide_anew(property_id, called_back, now), len(called_back))
        record(
            actor=made_by,
            code=CHANGED,
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            version=after,
            before=before.body,
            after=dict(body),
            reason=reason,
            approved_by=actor.code,
            decided_anew=changed.decided_anew,
            called_back=changed.called_back,
        )
        ring("supply_due", [property_id])
        ring("changed", [property_id])
    return changed


def _put_in_force(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The rules that were agreed to. Raises Changed `rules`: they are others by now, or not fair any more."""
    try:
        change_rules(
            actor=actor, property_id=agreed.property_id, version=agreed.effect["version"],
            body=agreed.effect["rules"], reason=agreed.reason, made_by=agreed.made_by, now=now,
        )  # fmt: skip
    except (SupplyRefused, PolicyRefused) as refused:
        raise Changed("rules") from refused


RULES: Final = Kind(KIND, _put_in_force)


def _refuse(before: queries.StoredRules, version: int, body: Mapping[str, Any]) -> None:
    if before.version != version:
        raise SupplyRefused("stale")
    if before.body == dict(body):
        raise SupplyRefused("same_rules")


def _write(property_id: int, version: int, body: Mapping[str, Any], now: datetime) -> int:
    """The new version; no login writes the rules otherwise than by this function of the database."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT change_supply_rules(%s, %s, %s, %s)",
            [property_id, version, json.dumps(dict(body)), now],
        )
        return int(cursor.fetchone()[0])


def _call_back(property_id: int, now: datetime) -> list[int]:
    """Supersede cuts of which no command has gone out; returns their accounts.

    An account of which one relay was sent a command is left: its cut has begun.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH mine AS (
                   SELECT id, account_id, state FROM supply_order
                   WHERE property_id = %(place)s AND state IN (1, 2, 3) AND kind = %(cut)s
                   ORDER BY id FOR UPDATE),
               back AS (
                   UPDATE supply_order o SET state = %(gone)s, finished_at = %(now)s, next_try_at = NULL
                   FROM mine WHERE o.id = mine.id AND mine.account_id NOT IN (
                       SELECT account_id FROM mine WHERE state <> %(decided)s)
                   RETURNING o.account_id)
               SELECT DISTINCT account_id FROM back ORDER BY account_id""",
            {
                "place": property_id,
                "cut": int(OrderKind.DISCONNECT),
                "gone": int(OrderState.SUPERSEDED),
                "decided": int(OrderState.DECIDED),
                "now": now,
            },
        )
        return [row[0] for row in cursor.fetchall()]


def _decide_anew(property_id: int, called_back: list[int], now: datetime) -> int:
    """Have the worker look at every cut that waits or was made; returns how many accounts.

    What was cut is looked at as well: the line from which supply is connected may be lower now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_state s
               SET reconsider_at = %(now)s,
                   held = s.held OR s.account_id = ANY(%(back)s),
                   desired = CASE WHEN s.account_id = ANY(%(back)s) THEN %(closed)s ELSE s.desired END
               FROM (SELECT account_id FROM supply_state
                     WHERE property_id = %(place)s AND (held OR desired = %(open)s)
                     ORDER BY account_id FOR UPDATE) found
               WHERE s.account_id = found.account_id""",
            {
                "now": now,
                "place": property_id,
                "back": called_back,
                "closed": int(RelayState.CLOSED),
                "open": int(RelayState.OPEN),
            },
        )
        return int(cursor.rowcount)
