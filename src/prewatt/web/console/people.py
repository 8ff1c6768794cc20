"""The people of a property: invited, suspended, let in again, and gone; and the page of a letter's link."""

from __future__ import annotations

from typing import Final

from django.contrib.auth import logout
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from prewatt.access.models import Duty
from prewatt.access.passwords import PASSWORD_MAX, PasswordRefused
from prewatt.access.scope import require
from prewatt.access.second_factor import FactorRefused
from prewatt.reports.place import place_for
from prewatt.sign_in import duties, groups, people
from prewatt.sign_in.people import Person, PersonRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import agreed_or_proposed, look_context, presses
from prewatt.web.console.asked import Asked, wants
from prewatt.web.console.second_factor import code_context, stepped_up
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words, sentences, sign_in_words

_DEEDS: Final = ("suspend", "resume", "leave")
_SECRETS: Final = ("code", "passkey")


@require_safe
def people_view(request: HttpRequest) -> HttpResponse:
    """Who works here, who is asked to, and who is suspended."""
    actor = actor_of(request)
    place = place_for(actor)
    return deeds.show(
        request, "people", place=place, now=clock.now(), tab="people", me=actor.user_id,
        people=people.people_of(actor=actor, property_id=place.property_id),
        done=sign_in_words.PERSON_DONE.get(request.GET.get("done", ""), ""),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@require_http_methods(["GET", "POST"])
def invite_view(request: HttpRequest) -> HttpResponse:
    """Whom to ask; then a look at the address, and the proof."""
    actor, asked = actor_of(request), Asked(request.POST)
    place = place_for(actor)
    require(actor, "people.manage", property_id=place.property_id)
    name, email, digest = "", "", None
    if request.method == "POST":
        name = asked.line("name", most=people.NAME_MAX, needed=True)
        email = asked.line("email", most=people.MAIL_MAX, needed=True).lower()
        if not asked.faults:
            digest = people.invite_digest(property_id=place.property_id, email=email)
    if digest is not None and wants(request):
        try:
            people.invite(
                actor=actor, property_id=place.property_id, email=email, name=name,
                language=get_language() or "en", step_up_id=stepped_up(request, digest),
                now=clock.now(),
            )  # fmt: skip
        except FactorRefused as refusal:
            asked.faults["code"] = approval_words.refused(refusal)
        except PersonRefused as refusal:
            field = refusal.reason if refusal.reason in ("name", "code") else "email"
            asked.faults[field] = sign_in_words.refused_person(refusal.reason)
            digest = None
        else:
            return redirect("/people?done=invited")
    return deeds.show(
        request, "invite", place=place, now=clock.now(), tab="people", sure=digest is not None,
        status=422 if asked.faults else 200, faults=asked.faults, form={"name": name, "email": email},
        **code_context(request, digest),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@require_http_methods(["GET", "POST"])
def person_view(request: HttpRequest, user_id: int, deed: str) -> HttpResponse:
    """One deed on one person: with its reason, and the administrator's proof for just that."""
    actor, asked = actor_of(request), Asked(request.POST)
    place = place_for(actor)
    if deed not in _DEEDS:
        raise Http404
    person = _person(request, place.property_id, user_id)
    digest = people.person_digest(deed=deed, property_id=place.property_id, user_id=user_id)
    reason = asked.line("reason", most=people.REASON_MAX, needed=deed != "resume")
    if request.method == "POST" and not asked.faults:
        try:
            _do(request, place.property_id, user_id, deed, reason, digest)
        except FactorRefused as refusal:
            asked.faults["code"] = approval_words.refused(refusal)
        except PersonRefused as refusal:
            if refusal.reason == "others":
                return redirect(f"/people/{user_id}/end")
            asked.faults["reason"] = sign_in_words.refused_person(refusal.reason)
        else:
            return redirect(f"/people?done={deed}")
    faults = asked.faults if request.method == "POST" else {}
    return deeds.show(
        request, "person", place=place, now=clock.now(), tab="people", person=person, deed=deed,
        words=sign_in_words.PERSON_DEEDS[deed], form={"reason": reason}, faults=faults,
        status=422 if faults else 200, **code_context(request, digest),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@require_http_methods(["GET", "POST"])
def duty_view(request: HttpRequest, user_id: int) -> HttpResponse:
    """Which duty somebody shall have here; a look, and the press that proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    person = _person(request, place.property_id, user_id)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted = None
    whole = [
        each
        for each in groups.groups_of(actor=actor, property_id=place.property_id)
        if each.is_whole
    ]
    if asked is not None:
        reason = asked.line("reason", most=people.REASON_MAX, needed=True)
        duty = asked.choice("duty", [each.value for each in duties.GIVEN])
        by = asked.text("group")
        group = next((each for each in whole if str(each.group_id) == by), None)
        if by and group is None:
            asked.faults["group"] = sign_in_words.refused_person("group")
        if not asked.faults:
            try:
                wanted = duties.wanted_duty(
                    actor=actor,
                    property_id=place.property_id,
                    person=person,
                    duty=Duty(duty),
                    group=group,
                )
            except PersonRefused as refusal:
                asked.faults["duty"] = sign_in_words.refused_person(refusal.reason)
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "person_duty", place=place, now=now, tab="people", person=person,
        duties=[(each.value, sentences.DUTY[each.value]) for each in duties.GIVEN],
        reaches=[("", place.name), *((str(each.group_id), each.name) for each in whole)],
        **look_context(request, asked, wanted, now, duty="operator"),
    )  # fmt: skip


@sensitive_post_parameters(*_SECRETS)
@require_http_methods(["GET", "POST"])
def end_view(request: HttpRequest, user_id: int) -> HttpResponse:
    """The end of a duty that takes another person: an auditor's, one's own, the last but one to decide."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    person = _person(request, place.property_id, user_id)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted = None
    if asked is not None:
        reason = asked.line("reason", most=people.REASON_MAX, needed=True)
        try:
            wanted = duties.wanted_end(actor=actor, property_id=place.property_id, person=person)
        except PersonRefused as refusal:
            asked.faults["reason"] = sign_in_words.refused_person(refusal.reason)
        if asked.faults:
            wanted = None
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "person_end", place=place, now=now, tab="people", person=person,
        **look_context(request, asked, wanted, now),
    )  # fmt: skip


def _person(request: HttpRequest, property_id: int, user_id: int) -> Person:
    """Somebody of this property's staff. Raises Http404."""
    found = people.people_of(actor=actor_of(request), property_id=property_id)
    for each in found:
        if each.user_id == user_id:
            return each
    raise Http404


def _do(
    request: HttpRequest, property_id: int, user_id: int, deed: str, reason: str, digest: bytes
) -> None:
    actor, step_up_id, now = actor_of(request), stepped_up(request, digest), clock.now()
    if deed == "resume":
        people.resume(
            actor=actor, property_id=property_id, user_id=user_id, step_up_id=step_up_id, now=now
        )
        return
    do = people.suspend if deed == "suspend" else people.leave
    do(
        actor=actor, property_id=property_id, user_id=user_id, reason=reason, step_up_id=step_up_id,
        now=now,
    )  # fmt: skip


@sensitive_post_parameters("new", "again")
@never_cache
@require_http_methods(["GET", "POST"])
def invited_view(request: HttpRequest, property_id: int, token: str) -> HttpResponse:
    """The link of a letter: choosing a password, once. It signs nobody in: that is the next page."""
    good = people.is_good(property_id=property_id, token=token[:64])
    asked = Asked(request.POST)
    if good and request.method == "POST":
        new = request.POST.get("new", "")
        if new != request.POST.get("again", ""):
            asked.faults["again"] = _("The two are not the same.")
        else:
            try:
                people.accept(
                    property_id=property_id, token=token[:64], password=new[: PASSWORD_MAX + 1]
                )
            except PasswordRefused as refusal:
                asked.faults["new"] = sign_in_words.refused_password(refusal)
            except PersonRefused:
                good = False
            else:
                logout(request)
                return redirect("/sign-in?problem=invited")
    return render(
        request, "prewatt/pages/invited.html", {"good": good, "faults": asked.faults},
        status=404 if not good else 422 if asked.faults else 200,
    )  # fmt: skip
