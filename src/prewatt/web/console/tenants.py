"""Who signs in as a customer: invited by a letter, linked, and unlinked, each in one action."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.reports.holders import holding_by_id
from prewatt.reports.place import place_for
from prewatt.sign_in import people, tenants
from prewatt.sign_in.people import PersonRefused
from prewatt.sign_in.tenants import Client
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import sign_in_words


@require_http_methods(["GET", "POST"])
def sign_in_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Those who see this customer's accounts, and the form that adds one."""
    actor = actor_of(request)
    require(actor, "tenants.link")
    client = tenants.client_of(actor=actor, account_id=account_id)
    if client is None or client.customer_id is None:
        raise Http404
    asked = Asked(request.POST) if request.method == "POST" else None
    if asked is not None:
        done = (
            _unlink(request, client, asked) if asked.text("end") else _link(request, client, asked)
        )
        if done:
            return redirect(f"/accounts/{account_id}/sign-in?done={done}")
    return deeds.show(
        request, "tenant_sign_in", place=place_for(actor), now=clock.now(), tab="accounts",
        who=holding_by_id(actor=actor, account_id=account_id).who, client=client,
        account_id=account_id, status=422 if asked is not None else 200,
        done=sign_in_words.TENANT_DONE.get(request.GET.get("done", ""), ""),
        **deeds.form_context(asked, name=client.name, email=client.email),
    )  # fmt: skip


def _link(request: HttpRequest, client: Client, asked: Asked) -> str:
    """The word of what was done; empty with a fault beside its field."""
    name = asked.line("name", most=people.NAME_MAX, needed=True)
    email = asked.line("email", most=people.MAIL_MAX, needed=True).lower()
    if asked.faults or client.customer_id is None:
        return ""
    try:
        is_new = tenants.link(
            actor=actor_of(request), property_id=client.property_id, customer_id=client.customer_id,
            email=email, name=name, language=client.language, now=clock.now(),
        )  # fmt: skip
    except PersonRefused as refusal:
        field = "name" if refusal.reason == "name" else "email"
        asked.faults[field] = str(sign_in_words.TENANT_REFUSED[refusal.reason])
        return ""
    return "invited" if is_new else "linked"


def _unlink(request: HttpRequest, client: Client, asked: Asked) -> str:
    who = asked.text("end")
    if client.customer_id is None or not (who.isascii() and who.isdigit() and len(who) < 19):
        raise Http404
    try:
        tenants.unlink(
            actor=actor_of(request), property_id=client.property_id,
            customer_id=client.customer_id, user_id=int(who), now=clock.now(),
        )  # fmt: skip
    except PersonRefused:
        # Somebody else was quicker: the page shows who is left.
        return "unlinked"
    return "unlinked"
