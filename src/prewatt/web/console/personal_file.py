"""All that is known of a customer: asked for by one, agreed to by another, and taken as a signed file."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.mandates.models import Mandate
from prewatt.mandates.operations import FILE, MandateRefused, mandate_of, wanted_file
from prewatt.reports.holders import holding_by_id
from prewatt.reports.personal_file import file_of_account, personal_file
from prewatt.reports.place import place_for
from prewatt.signing.keyring import NoSigningKey, open_keyring
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStoreRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of

FOR_MAX = 120


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def ask_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Who wants all that is known of this customer, and why; a look, and the press that proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    holding = holding_by_id(actor=actor, account_id=account_id)
    customer_id, name, accounts = file_of_account(actor=actor, account_id=account_id)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted: Wanted | None = None
    if asked is not None:
        asked_by = asked.line("for", most=FOR_MAX, needed=True)
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if not asked.faults:
            wanted = wanted_file(
                actor=actor, property_id=place.property_id, customer_id=customer_id, name=name,
                accounts=accounts, asked_by=asked_by,
            )  # fmt: skip
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "file_ask", place=place, now=now, tab="accounts", who=holding.who, name=name,
        **look_context(request, asked, wanted, now),
    )  # fmt: skip


@never_cache
@require_http_methods(["GET", "POST"])
def take_view(request: HttpRequest, proposal_id: int) -> HttpResponse:
    """What was agreed to be taken; the press takes the file, signed, and uses the agreement once."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    mandate = mandate_of(actor=actor, proposal_id=proposal_id)
    if mandate is None or mandate.kind != FILE:
        raise Http404
    problem = ""
    if request.method == "POST":
        try:
            return _taken(request, mandate)
        except MandateRefused:
            problem = _("Only who asked for it takes it, three times at most, within seven days.")
        except (NoSigningKey, KeyStoreRefused):
            problem = _(
                "No key signs such files here, so there is none. Ask who keeps the machine."
            )
    context: dict[str, Any] = {
        "mandate": mandate, "problem": problem, "own": mandate.made_by == actor.code,
        "good": mandate.uses_left > 0 and mandate.expires_at > now,
    }  # fmt: skip
    return deeds.show(
        request, "file_take", place=place_for(actor), now=now, tab="approvals",
        status=409 if problem else 200, **context,
    )  # fmt: skip


def _taken(request: HttpRequest, mandate: Mandate) -> HttpResponse:
    """The file. Raises MandateRefused, NoSigningKey, KeyStoreRefused: then nothing was used."""
    now = clock.now()
    ring = open_keyring()
    content = personal_file(
        actor=actor_of(request), mandate_id=mandate.pk, proposal_id=mandate.proposal_id, now=now,
        sign=lambda document: ring.sign(KeyRole.PERSONAL_FILE, document, now=now),
    )  # fmt: skip
    response = HttpResponse(content, content_type="application/zip")
    response["Content-Disposition"] = (
        f'attachment; filename="customer-{mandate.effect["customer"]}.zip"'
    )
    return response
