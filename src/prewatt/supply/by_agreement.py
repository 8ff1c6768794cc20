"""Supply against its rules: the brake, a protected supply, one relay by hand. Others agree, or an emergency.

Each is a kind of proposal, and each has its function of the database, which takes what was agreed to in the
very transaction. In an emergency one administrator does at once what restores supply or stops harm; every
other administrator and auditor is told, and somebody else looks at it within three days.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.models import Proposal
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.core.vocabulary import Protection, RelayState
from prewatt.notify.alerts import EMERGENCY
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.runtime.bells import ring
from prewatt.supply import queries
from prewatt.supply.operations import (
    SupplyRefused,
    pull_brake,
    release_brake,
    set_protection,
)

BRAKE: Final = "supply.brake"
PROTECTION: Final = "supply.protection"
BY_HAND: Final = "supply.by_hand"
#: How long a relay is kept by hand at most; what shall last longer is a rule.
BY_HAND_MAX: Final = timedelta(days=31)


def brake_is_on(*, actor: Actor, property_id: int) -> bool:
    """Whether the mass-cut brake of a property is on."""
    require(actor, "accounts.read", property_id=property_id)
    with scope(actor):
        return queries.brake_since([property_id]).get(property_id) is not None


def wanted_brake(*, actor: Actor, property_id: int, release: bool) -> Wanted:
    """Release the brake that is on, or put it on. Raises SupplyRefused ``brake_is_off``, ``brake_is_on``."""
    require(actor, "supply.release_brake", property_id=property_id)
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT p.brake_since, (SELECT count(*) FROM supply_state s
                       WHERE s.property_id = p.property_id AND s.held)
                   FROM supply_policy p WHERE p.property_id = %s""",
                [property_id],
            )
            since, waiting = cursor.fetchone() or (None, 0)
        if (since is None) is release:
            raise SupplyRefused("brake_is_off" if release else "brake_is_on")
        effect: dict[str, Any] = {"waiting": waiting}
        if since is not None:
            effect["since"] = since.isoformat()
        return wanted_change(
            kind=BRAKE, property_id=property_id,
            subject="brake:release" if release else "brake:on", effect=effect,
        )  # fmt: skip


def wanted_protection(
    *, actor: Actor, property_id: int, account_id: int, protection: Protection
) -> Wanted:
    """Protect a supply, or end that (NONE). Raises SupplyRefused ``unknown_account``, ``same_protection``."""
    require(actor, "supply.protect", property_id=property_id)
    word = protection.word if protection else ""
    with scope(actor):
        before = _standing(property_id, account_id)["protection"]
        if before == word:
            raise SupplyRefused("same_protection")
        return wanted_change(
            kind=PROTECTION, property_id=property_id, subject=f"account:{account_id}",
            effect={"account": account_id, "before": before, "protection": word},
        )  # fmt: skip


def wanted_by_hand(
    *,
    actor: Actor,
    property_id: int,
    account_id: int,
    relay: RelayState | None,
    until: datetime | None,
    now: datetime,
) -> Wanted:
    """Keep an account's relays closed or open until an instant, whatever its balance; None ends that.

    Raises SupplyRefused ``unknown_account``, ``late`` (the instant has passed), ``long`` (beyond
    `BY_HAND_MAX`), ``not_by_hand`` (nothing to end).
    """
    require(actor, "supply.protect", property_id=property_id)
    with scope(actor):
        standing = _standing(property_id, account_id)
        if relay is None and standing["by_hand"] is None:
            raise SupplyRefused("not_by_hand")
        if relay is not None and (until is None or until <= now):
            raise SupplyRefused("late")
        if until is not None and until > now + BY_HAND_MAX:
            raise SupplyRefused("long")
        effect = {
            "account": account_id, "relay": "none" if relay is None else relay.word,
            "until": until.isoformat() if relay is not None and until is not None else "",
            "before": RelayState(standing["desired"]).word, "available": standing["available"],
        }  # fmt: skip
        return wanted_change(
            kind=BY_HAND, property_id=property_id, subject=f"account:{account_id}", effect=effect
        )


def note_emergency(*, actor: Actor, proposal_id: int, now: datetime) -> None:
    """Call everybody else to what was done in an emergency; in its transaction, and again when it is late."""
    require(actor, "approvals.propose")
    with scope(actor):
        found = Proposal.objects.get(pk=proposal_id)
        raise_alert(
            property_id=found.property_id, code=EMERGENCY, subject=f"property:{found.property_id}",
            detail={"proposal": proposal_id, "kind": found.kind, "by": found.made_by}, now=now,
        )  # fmt: skip


def remind_of_emergencies(*, actor: Actor, now: datetime) -> int:
    """Call again to what was done in an emergency and nobody else has looked at; in how many properties.

    Whoever closes the alert by hand has not looked at it: it comes again while it waits, and ends by itself
    once somebody has said whether it was right.
    """
    require(actor, "supply.decide")
    with scope(actor):
        waiting = Proposal.objects.filter(
            state=Proposal.State.EMERGENCY, reviewed_at__isnull=True
        ).order_by("property_id", "pk")
        last = {each.property_id: each for each in waiting}
        for place, found in last.items():
            raise_alert(
                property_id=place, code=EMERGENCY, subject=f"property:{place}",
                detail={"proposal": found.pk, "kind": found.kind, "by": found.made_by}, now=now,
                refresh=False,
            )  # fmt: skip
        reviewed = Proposal.objects.filter(reviewed_at__isnull=False).exclude(property_id__in=last)
        for place in sorted(set(reviewed.values_list("property_id", flat=True))):
            close_alert(property_id=place, code=EMERGENCY, subject=f"property:{place}", now=now)
    return len(last)


def _standing(property_id: int, account_id: int) -> Mapping[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.protection, s.by_hand, s.desired, a.available
               FROM supply_state s JOIN account_state a USING (account_id)
               JOIN account c ON c.id = s.account_id AND c.closed_at IS NULL
               WHERE s.account_id = %s AND s.property_id = %s""",
            [account_id, property_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise SupplyRefused("unknown_account")
    return dict(zip(("protection", "by_hand", "desired", "available"), row, strict=True))


def _move_brake(actor: Actor, agreed: Agreed, now: datetime) -> None:
    move = release_brake if agreed.subject == "brake:release" else pull_brake
    move(
        actor=actor, property_id=agreed.property_id, now=now, made_by=agreed.made_by,
        reason=agreed.reason, proposal=agreed.proposal_id,
    )  # fmt: skip


def _protect(actor: Actor, agreed: Agreed, now: datetime) -> None:
    word = str(agreed.effect["protection"])
    set_protection(
        actor=actor, property_id=agreed.property_id, account_id=agreed.effect["account"],
        protection=Protection[word.upper() or "NONE"], now=now,
        made_by=agreed.made_by, reason=agreed.reason, proposal=agreed.proposal_id,
    )  # fmt: skip


def _by_hand(actor: Actor, agreed: Agreed, now: datetime) -> None:
    account_id = int(agreed.effect["account"])
    with scope(actor), connection.cursor() as cursor:
        with saying_what_changed():
            cursor.execute(
                "SELECT order_by_hand(%s, %s, %s)", [agreed.property_id, account_id, now]
            )
        record(
            actor=actor.code, code="supply.by_hand.set", property_id=agreed.property_id,
            subject=f"account:{account_id}", now=now, relay=agreed.effect["relay"],
            until=agreed.effect["until"], made_by=agreed.made_by, reason=agreed.reason,
            proposal=agreed.proposal_id,
        )  # fmt: skip
        ring("supply_due", [agreed.property_id])
        ring("changed", [agreed.property_id])


def _is_closing(effect: Mapping[str, Any]) -> bool:
    return bool(effect.get("relay") == "closed")


def _is_protecting(effect: Mapping[str, Any]) -> bool:
    return bool(effect.get("protection"))


KINDS: Final = (
    Kind(BRAKE, _move_brake, lambda _effect: True),
    Kind(PROTECTION, _protect, _is_protecting),
    Kind(BY_HAND, _by_hand, _is_closing),
)
