"""What pages of deeds share that others agree to: who has to, the code that proves oneself, the press.

The last step of such a page either does the deed, where the property's limits ask for nobody else, or
proposes it; the page says which before the press.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest

from prewatt.access.second_factor import FactorRefused
from prewatt.approvals.kinds import kind_of
from prewatt.approvals.operations import (
    ProposalRefused,
    Wanted,
    break_glass,
    emergency_digest,
    needed_for,
    propose,
)
from prewatt.reports.proposals import preview, waiting_about
from prewatt.supply.by_agreement import note_emergency
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked
from prewatt.web.console.second_factor import code_context, stepped_up
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words, proposal_words
from prewatt.web.ui.tags import lang

REASON_MAX = 400
SECRETS = ("code", "passkey")


def agreement_context(request: HttpRequest, wanted: Wanted | None) -> dict[str, Any]:
    """What ``parts/agreement.html`` needs: how many others agree, and the field that proves oneself.

    The proof is of one deed, so an emergency is looked at by itself before it is pressed.
    """
    if wanted is None:
        return {"needed": None}
    may_rescue = kind_of(wanted.kind).in_emergency(wanted.effect)
    urgent = may_rescue and request.POST.get("do") in ("urgent", "emergency")
    digest = emergency_digest(wanted=wanted) if urgent else wanted.digest
    return {
        "needed": needed_for(actor=actor_of(request), wanted=wanted),
        "for_emergency": may_rescue, "urgent": urgent, **code_context(request, digest),
    }  # fmt: skip


def waiting_context(request: HttpRequest, subject: str, now: datetime) -> dict[str, Any]:
    """What ``parts/waiting.html`` needs: what was proposed about the page's thing and waits."""
    return {"waiting": waiting_about(actor=actor_of(request), now=now, subject=subject)}


def look_context(
    request: HttpRequest, asked: Asked | None, wanted: Wanted | None, now: datetime, **first: str
) -> dict[str, Any]:
    """What the form of such a deed and the look at it need; ``first`` is written there before anybody wrote.

    What proves oneself counts once, and is never sent back.
    """
    looked = None
    if wanted is not None:
        looked = preview(actor=actor_of(request), wanted=wanted, now=now)
    context = deeds.form_context(asked, **first)
    for secret in SECRETS:
        context["form"].pop(secret, None)
    return {
        "looked": looked, "lines": proposal_words.lines(looked, lang()) if looked else (),
        "status": 422 if context["faults"] else 200, **context, **agreement_context(request, wanted),
    }  # fmt: skip


def agreed_or_proposed(
    request: HttpRequest, asked: Asked, wanted: Wanted, reason: str, now: datetime
) -> str | None:
    """Propose a change, or do it where it takes nobody else; the address of its page.

    None with a fault beside the field of the code.
    """
    actor = actor_of(request)
    try:
        if request.POST.get("do") == "emergency":
            proposal_id = break_glass(
                actor=actor, wanted=wanted, reason=reason, now=now,
                step_up_id=stepped_up(request, emergency_digest(wanted=wanted)),
            )  # fmt: skip
            note_emergency(actor=actor, proposal_id=proposal_id, now=now)
            return f"/approvals/{proposal_id}?done=emergency"
        made = propose(
            actor=actor, wanted=wanted, reason=reason, now=now,
            step_up_id=stepped_up(request, wanted.digest),
        )  # fmt: skip
    except (FactorRefused, ProposalRefused) as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        return None
    return f"/approvals/{made.proposal_id}?done={'alone' if made.is_done else 'proposed'}"


def presses(request: HttpRequest) -> bool:
    """Whether the form was confirmed, by whichever of its buttons; before, it is only looked at."""
    return request.POST.get("do") in ("confirm", "emergency")
