"""One's own second factor: taken up with an app, once; and asked for where a deed needs it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import segno
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access import second_factor
from prewatt.access.models import User
from prewatt.access.scope import actor_for
from prewatt.access.second_factor import FactorRefused
from prewatt.reports.place import place_for
from prewatt.reports.properties import own_properties
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words


def user_of(request: HttpRequest) -> User:
    """Who is signed in; `SignedIn` lets nobody else come to a page."""
    assert isinstance(request.user, User)
    return request.user


def stepped_up(request: HttpRequest, digest: bytes) -> int:
    """The step-up that the form's code proves for a deed. Raises FactorRefused."""
    code = request.POST.get("code", "")[:12]
    return second_factor.prove(user=user_of(request), code=code, digest=digest, now=clock.now())


def code_context(request: HttpRequest) -> dict[str, Any]:
    """What a form needs that asks for a code: whether there is a factor, and in a demo its code."""
    user = user_of(request)
    has_one = second_factor.has_factor(user)
    shown = second_factor.code_at(user, clock.now()) if has_one and settings.DEMO else ""
    return {"has_factor": has_one, "demo_code": shown}


@sensitive_post_parameters("code", "sealed")
@never_cache
@require_http_methods(["GET", "POST"])
def second_factor_view(request: HttpRequest) -> HttpResponse:
    """Whether there is one; and taking one up: a secret for the app, confirmed by its first code."""
    user, now = user_of(request), clock.now()
    if request.method != "POST":
        return _show(request, None if second_factor.has_factor(user) else "")
    asked = Asked(request.POST)
    sealed = request.POST.get("sealed", "")[:1000]
    # At each property one has a duty at, under that duty.
    places = [
        actor_for(user, property_id=each.property_id) for each in own_properties(actor_of(request))
    ]
    try:
        second_factor.enrol(
            actors=tuple(places), user=user, sealed=sealed, code=asked.text("code", 12), now=now
        )
    except FactorRefused as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        # A stale form may be that of somebody who has taken one up since.
        if refusal.reason == "enrolled" or second_factor.has_factor(user):
            return _show(request, None, asked, status=422)
        return _show(request, "" if refusal.reason == "stale" else sealed, asked, status=422)
    return redirect("/second-factor?done=1")


def _show(
    request: HttpRequest, sealed: str | None, asked: Asked | None = None, *, status: int = 200
) -> HttpResponse:
    """``sealed`` None: there is one. Empty: a new secret; else the one that the form carries."""
    user, now = user_of(request), clock.now()
    offer = None
    if sealed is not None:
        offer = (
            second_factor.offered_again(user=user, sealed=sealed, now=now)
            if sealed
            else second_factor.offer(user=user, now=now)
        )
    return deeds.show(
        request, "second_factor", place=place_for(actor_of(request), "estate.read"), now=now, tab="", status=status,
        offer=offer, picture=_picture(offer.uri) if offer else "",
        groups=[offer.secret[at : at + 4] for at in range(0, len(offer.secret), 4)] if offer else (),
        demo_code=second_factor.code_of_offer(offer, now) if offer and settings.DEMO else "",
        done=request.GET.get("done", ""), **deeds.form_context(asked, code=""),
    )  # fmt: skip


def _picture(uri: str) -> SafeString:
    """The QR code as SVG of its own, without style or script; black on white in every theme."""
    out = BytesIO()
    segno.make(uri, error="m").save(
        out, kind="svg", xmldecl=False, svgns=False, scale=4, border=3, dark="#000", light="#fff",
        omitsize=True, svgclass="qr", lineclass=None,
    )  # fmt: skip
    return SafeString(out.getvalue().decode("ascii"))
