"""Proving that one is there: at the sign-in, and for a deed; and taking up what proves it.

A page that asks for a step-up includes ``parts/code.html`` with `code_context` and hands the form to
`stepped_up`; whether an app's code or a passkey proves it is the person's choice and not the page's concern.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import segno
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from prewatt.access import second_factor
from prewatt.access.models import User
from prewatt.access.second_factor import FactorRefused
from prewatt.reports.place import place_for
from prewatt.sign_in import factors, passkeys
from prewatt.sign_in.factors import Proof
from prewatt.web import clock, session
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words

#: A page that was left open for so long asks anew.
_ASK_LASTS_S: Final = 12 * 3600
_ASK: Final = "prewatt.passkey"


def user_of(request: HttpRequest) -> User:
    """Who is signed in; `SignedIn` lets nobody else come to a page."""
    assert isinstance(request.user, User)
    return request.user


def site_of(request: HttpRequest) -> str:
    """The host that a passkey belongs to; empty at an address of numbers, which can have none."""
    host = request.get_host().rsplit(":", 1)[0].strip("[]").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return ""


def proof_of(request: HttpRequest) -> Proof:
    """What the form proves itself with."""
    form = request.POST
    return Proof(
        code=form.get("code", "")[:12], passkey=form.get("passkey", "")[: passkeys.ANSWER_MAX + 1],
        recovery=form.get("recovery", "")[:80], site=site_of(request),
    )  # fmt: skip


def stepped_up(request: HttpRequest, digest: bytes) -> int:
    """The step-up that the form's code or passkey proves for a deed. Raises FactorRefused."""
    return factors.prove(
        user=user_of(request), proof=proof_of(request), digest=digest, now=clock.now()
    )


def code_context(request: HttpRequest, digest: bytes | None = None) -> dict[str, Any]:
    """What a form needs that asks for a proof: what the person has, and in a demo the app's code.

    ``digest`` names the deed, so that a passkey can be asked for it; without one only codes are.
    """
    return _proof_context(request, user_of(request), None if digest is None else ("deed", digest))


def _proof_context(
    request: HttpRequest, user: User, purpose: tuple[str, bytes] | None
) -> dict[str, Any]:
    has = factors.standing(user=user, site=site_of(request))
    shown, wait_s = "", 0
    if has.app and settings.DEMO:
        shown, wait_s = second_factor.code_at(user, clock.now())
    ask = ""
    if purpose is not None and has.passkeys:
        what, digest = purpose
        ask = signing.dumps([user.pk, what, digest.hex()], salt=_ASK)
    return {
        "has_factor": has.has_one, "has_app": has.app is not None, "passkey_ask": ask,
        "passkeys_elsewhere": has.elsewhere, "demo_code": shown,
        "demo_wait_s": wait_s,
    }  # fmt: skip


def _asker(request: HttpRequest) -> User | None:
    """Who asks for a challenge: at the sign-in, whose password was right; else who is signed in."""
    return session.pending(request) if request.path.startswith("/sign-in") else user_of(request)


@never_cache
@require_POST
def ask_view(request: HttpRequest) -> HttpResponse:
    """What a passkey is asked to sign: a fresh challenge for what the page's ``ask`` names, as JSON."""
    user = _asker(request)
    try:
        who, what, digest = signing.loads(
            request.POST.get("ask", ""), salt=_ASK, max_age=_ASK_LASTS_S
        )
    except signing.BadSignature:
        return JsonResponse({}, status=403)
    if user is None or user.pk != who:
        return JsonResponse({}, status=403)
    site = site_of(request)
    try:
        asked = passkeys.challenge(user=user, purpose=what, digest=bytes.fromhex(digest))
    except FactorRefused:
        return JsonResponse({}, status=429)
    return JsonResponse(passkeys.options_to_prove(user=user, site=site, asked=asked))


@never_cache
@require_POST
def new_passkey_options_view(request: HttpRequest) -> HttpResponse:
    """What a device is asked that makes a passkey; and what another one proves that it may be added."""
    user, site = _asker(request), site_of(request)
    if user is None or not site:
        return JsonResponse({}, status=403)
    try:
        asked = passkeys.challenge(user=user, purpose="add")
    except FactorRefused:
        return JsonResponse({}, status=429)
    options = passkeys.options_to_add(user=user, site=site, asked=asked)
    digest = factors.own_deed(factors.ADD_PASSKEY, asked.hex())
    proof = _proof_context(request, user, ("deed", digest))
    return JsonResponse({"make": options, "ask": proof["passkey_ask"]})


@sensitive_post_parameters("code", "passkey", "recovery", "sealed")
@never_cache
@require_http_methods(["GET", "POST"])
def at_sign_in_view(request: HttpRequest) -> HttpResponse:
    """The second step of signing in: prove it, or take a first factor up where a duty needs one."""
    user = session.pending(request)
    if user is None:
        return redirect("/sign-in?problem=late" if request.session.get("pending") else "/sign-in")
    if not factors.has_one(user):
        return _take_up(request, user)
    asked = Asked(request.POST)
    if request.method == "POST":
        proof = proof_of(request)
        try:
            by = factors.prove_sign_in(user=user, proof=proof, now=clock.now())
        except FactorRefused as refusal:
            field = "recovery" if proof.recovery and not proof.passkey else "code"
            asked.faults[field] = approval_words.refused(refusal)
        else:
            return session.complete(request, user, by=by)
    return render(
        request, "prewatt/pages/sign_in_factor.html",
        {"faults": asked.faults, "at_sign_in": True, **_proof_context(request, user, ("sign_in", b""))},
        status=422 if asked.faults else 200,
    )  # fmt: skip


def _take_up(request: HttpRequest, user: User) -> HttpResponse:
    """A first factor, without which the sign-in ends here."""
    asked = Asked(request.POST)
    if request.method == "POST":
        try:
            by, codes = _taken_up(request, user, asked)
        except FactorRefused as refusal:
            asked.faults["name" if refusal.reason == "name" else "code"] = approval_words.refused(
                refusal
            )
        else:
            session.complete(request, user, by=by)
            shown = render(request, "prewatt/pages/sign_in_codes.html", {"codes": codes})
            return session.known_from_now_on(request, user, shown)
    return render(
        request, "prewatt/pages/sign_in_take_up.html",
        {"faults": asked.faults, "form": asked.values, **offer_context(request, user, asked)},
        status=422 if asked.faults else 200,
    )  # fmt: skip


def _taken_up(request: HttpRequest, user: User, asked: Asked) -> tuple[str, Sequence[str]]:
    """(what proves the person now, their recovery codes). Raises FactorRefused."""
    if request.POST.get("made"):
        return "passkey", add_passkey(request, user, asked)
    return "code", factors.take_up_app(
        user=user, sealed=request.POST.get("sealed", "")[:1000], code=asked.text("code", 12),
        step_up_id=None, now=clock.now(),
    )  # fmt: skip


def add_passkey(request: HttpRequest, user: User, asked: Asked) -> Sequence[str]:
    """Add the passkey that the form brings; recovery codes that come with a first. Raises FactorRefused."""
    name = asked.line("name", most=passkeys.NAME_MAX) or _("Passkey")
    if asked.faults:
        raise FactorRefused("name")
    return factors.add_passkey(
        user=user, answer=request.POST.get("made", "")[: passkeys.ANSWER_MAX + 1], name=name,
        site=site_of(request), proof=proof_of(request), now=clock.now(),
    )  # fmt: skip


def offer_context(request: HttpRequest, user: User, asked: Asked) -> dict[str, Any]:
    """A secret for an app: the one that the form carries, unless it is stale, else a new one."""
    now, sealed = clock.now(), asked.text("sealed", 1000)
    try:
        offer = second_factor.offered_again(user=user, sealed=sealed, now=now)
    except FactorRefused:
        offer = second_factor.offer(user=user, now=now)
    return {
        "offer": offer, "picture": _picture(offer.uri), "site": site_of(request),
        "groups": [offer.secret[at : at + 4] for at in range(0, len(offer.secret), 4)],
        "offer_code": second_factor.code_of_offer(offer, now) if settings.DEMO else "",
    }  # fmt: skip


def show_codes(request: HttpRequest, codes: Sequence[str]) -> HttpResponse:
    """Recovery codes, once: what is shown here is kept nowhere."""
    place = place_for(actor_of(request), "estate.read")
    return deeds.show(request, "codes", place=place, now=clock.now(), tab="", codes=codes)


def _picture(uri: str) -> SafeString:
    """The QR code as SVG of its own, without style or script; black on white in every theme."""
    out = BytesIO()
    segno.make(uri, error="m").save(
        out, kind="svg", xmldecl=False, svgns=False, scale=4, border=3, dark="#000", light="#fff",
        omitsize=True, svgclass="qr", lineclass=None,
    )  # fmt: skip
    return SafeString(out.getvalue().decode("ascii"))
