"""One's own sign-in: what proves one, where one is signed in, and the password. Nobody else's is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from prewatt.access.passwords import PASSWORD_MAX, PasswordRefused
from prewatt.access.second_factor import FactorRefused
from prewatt.reports.place import place_for
from prewatt.sign_in import factors, sessions
from prewatt.sign_in.factors import own_deed
from prewatt.sign_in.models import Passkey
from prewatt.web import clock, session
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked
from prewatt.web.console.second_factor import (
    add_passkey,
    code_context,
    offer_context,
    show_codes,
    site_of,
    stepped_up,
    user_of,
)
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words, sign_in_words

_SECRETS: Final = ("code", "passkey", "recovery", "sealed", "password", "new", "again")
_form_view = require_http_methods(["GET", "POST"])


@never_cache
@require_safe
def me_view(request: HttpRequest) -> HttpResponse:
    """What proves me, my sessions, my password."""
    user, here = user_of(request), request.session.get("sign_in")
    has = factors.standing(user=user, site=site_of(request))
    found = sessions.of(user)
    return _show(
        request, "me", user=user, has=has, here=here, site=site_of(request),
        going_on=[each for each in found if each.ended_at is None],
        ended=[each for each in found if each.ended_at is not None],
        can_begin_anew=has.waits is not None and clock.of_database(has.waits.good_from) <= clock.now(),
        done=sign_in_words.DONE.get(request.GET.get("done", ""), ""),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def app_view(request: HttpRequest) -> HttpResponse:
    """Taking up an app for codes, or giving it up where a passkey stands in for it."""
    user = user_of(request)
    has = factors.standing(user=user, site=site_of(request))
    if has.app is not None:
        if request.method == "POST" and "sealed" in request.POST:
            # A form of before, sent once more: there is one by now.
            return _deed(request, "drop_app", {}, status=422)
        return _own_deed(
            request, "drop_app", digest=own_deed(factors.DROP_APP),
            do=lambda step: factors.drop_app(user=user, step_up_id=step, now=clock.now()),
        )  # fmt: skip
    asked = Asked(request.POST)
    if request.method == "POST":
        try:
            step = stepped_up(request, own_deed(factors.TAKE_UP_APP)) if has.has_one else None
            codes = factors.take_up_app(
                user=user, sealed=request.POST.get("sealed", "")[:1000],
                code=request.POST.get("first", "")[:12], step_up_id=step, now=clock.now(),
            )  # fmt: skip
        except FactorRefused as refusal:
            asked.faults["first"] = approval_words.refused(refusal)
        else:
            return show_codes(request, codes) if codes else redirect("/me?done=app")
    return _show(
        request, "second_factor", asked, **offer_context(request, user, asked),
        **code_context(request, own_deed(factors.TAKE_UP_APP)),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def new_passkey_view(request: HttpRequest) -> HttpResponse:
    """Adding a passkey: the device makes it, and what one has already proves that it may be added."""
    user, asked = user_of(request), Asked(request.POST)
    if not site_of(request):
        raise Http404
    if request.method == "POST":
        try:
            codes = add_passkey(request, user, asked)
        except FactorRefused as refusal:
            field = "name" if refusal.reason == "name" else "code"
            asked.faults.setdefault(field, approval_words.refused(refusal))
        else:
            return show_codes(request, codes) if codes else redirect("/me?done=passkey")
    return _show(request, "passkey_new", asked, makes_passkeys=True, **code_context(request))


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def remove_passkey_view(request: HttpRequest, passkey_id: int) -> HttpResponse:
    """Giving a passkey up; never the last one while a duty needs one."""
    user = user_of(request)
    found = Passkey.objects.filter(user=user, pk=passkey_id, removed_at=None).first()
    if found is None:
        raise Http404
    return _own_deed(
        request, "remove_passkey", digest=own_deed(factors.REMOVE_PASSKEY, str(passkey_id)),
        about={"about": found.name},
        do=lambda step: factors.remove_passkey(
            user=user, passkey_id=passkey_id, step_up_id=step, now=clock.now()
        ),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def codes_view(request: HttpRequest) -> HttpResponse:
    """New recovery codes in the place of all older ones."""
    user, asked = user_of(request), Asked(request.POST)
    digest = own_deed(factors.MAKE_CODES)
    if request.method == "POST":
        try:
            codes = factors.make_codes(
                user=user, step_up_id=stepped_up(request, digest), now=clock.now()
            )
        except FactorRefused as refusal:
            asked.faults["code"] = approval_words.refused(refusal)
        else:
            return show_codes(request, codes)
    return _deed(request, "codes", code_context(request, digest), asked)


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def lost_view(request: HttpRequest) -> HttpResponse:
    """A lost factor: asked for with a recovery code, good a day later, taken back at any time."""
    user, asked, now = user_of(request), Asked(request.POST), clock.now()
    deed = asked.text("do", 10)
    if request.method == "POST":
        try:
            if deed == "keep":
                factors.keep_factor(user=user, now=now)
                return redirect("/me?done=kept")
            if deed == "anew":
                factors.begin_anew(user=user, now=now)
                return redirect("/second-factor")
            factors.ask_new_factor(user=user, code=asked.text("recovery", 80), now=now)
        except FactorRefused as refusal:
            asked.faults["recovery"] = approval_words.refused(refusal)
        else:
            return redirect("/me?done=asked")
    has = factors.standing(user=user, site=site_of(request))
    return _show(request, "factor_lost", asked, has=has)


@sensitive_post_parameters(*_SECRETS)
@never_cache
@_form_view
def password_view(request: HttpRequest) -> HttpResponse:
    """Another password, with the present one and a second factor; every other session ends."""
    user, asked = user_of(request), Asked(request.POST)
    digest = own_deed(factors.NEW_PASSWORD)
    if request.method == "POST":
        new = request.POST.get("new", "")
        if not session.knows_password(request, user, request.POST.get("password", "")):
            asked.faults["password"] = _(
                "That is not your present password, or it was tried too often."
            )
        elif new != request.POST.get("again", ""):
            asked.faults["again"] = _("The two are not the same.")
        elif new == request.POST.get("password", ""):
            asked.faults["new"] = _("That is the password you have. Choose another.")
        else:
            return _change_password(request, new[: PASSWORD_MAX + 1], digest, asked)
    return _deed(request, "password", code_context(request, digest), asked)


def _change_password(request: HttpRequest, new: str, digest: bytes, asked: Asked) -> HttpResponse:
    user = user_of(request)
    try:
        factors.change_password(
            user=user, password=new, step_up_id=stepped_up(request, digest), now=clock.now()
        )
    except PasswordRefused as refusal:
        asked.faults["new"] = sign_in_words.refused_password(refusal)
    except FactorRefused as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
    else:
        session.go_on_with_new_password(request)
        return redirect("/me?done=password")
    return _deed(request, "password", code_context(request, digest), asked)


@require_POST
def end_sessions_view(request: HttpRequest) -> HttpResponse:
    """End one of one's sessions, or all others. Ending this one is signing out."""
    user, here = user_of(request), request.session["sign_in"]
    which = request.POST.get("session", "")
    if which == "others":
        sessions.end_others(user=user, but=here, why="ended", now=clock.now())
    elif which.isascii() and which.isdigit() and len(which) < 19:
        if int(which) == here:
            return session.sign_out(request)
        sessions.end_own(user=user, sign_in_id=int(which), now=clock.now())
    return redirect("/me?done=ended")


def _own_deed(
    request: HttpRequest,
    deed: str,
    *,
    digest: bytes,
    do: Callable[[int], None],
    about: Mapping[str, str] | None = None,
) -> HttpResponse:
    """A deed on oneself that a proof is all that is asked for."""
    asked = Asked(request.POST)
    if request.method == "POST":
        try:
            do(stepped_up(request, digest))
        except FactorRefused as refusal:
            asked.faults["code"] = approval_words.refused(refusal)
        else:
            return redirect(f"/me?done={deed}")
    return _deed(request, deed, {**(about or {}), **code_context(request, digest)}, asked)


def _deed(
    request: HttpRequest,
    deed: str,
    context: Mapping[str, Any],
    asked: Asked | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    words = sign_in_words.DEEDS[deed]
    found = {**code_context(request), **context}
    return _show(request, "my_deed", asked, deed=deed, words=words, status=status, **found)


def _show(
    request: HttpRequest,
    template: str,
    asked: Asked | None = None,
    *,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    given = Asked(request.POST) if asked is None else asked
    return deeds.show(
        request, template, place=place_for(actor_of(request), "estate.read"), now=clock.now(), tab="",
        status=422 if given.faults else status, faults=given.faults,
        form={name: text for name, text in given.values.items() if name not in _SECRETS}, **more,
    )  # fmt: skip
