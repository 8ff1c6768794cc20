"""Groups of properties: which there are, whom they reach, and the deed that makes or changes one."""

from __future__ import annotations

from datetime import datetime

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.reports.place import place_for
from prewatt.sign_in import groups
from prewatt.sign_in.groups import Group, GroupRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    SECRETS,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import sign_in_words


@require_safe
def groups_view(request: HttpRequest) -> HttpResponse:
    """Every group in which the administrator has a property, and who has a duty by it."""
    actor = actor_of(request)
    place = place_for(actor)
    return deeds.show(
        request, "groups", place=place, now=clock.now(), tab="groups",
        groups=groups.groups_of(actor=actor, property_id=place.property_id),
    )  # fmt: skip


@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "POST"])
def new_group_view(request: HttpRequest) -> HttpResponse:
    """A group that is not there yet."""
    return _write(request, None)


@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "POST"])
def group_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Another name of a group, other properties."""
    actor = actor_of(request)
    require(actor, "people.manage")
    known = groups.groups_of(actor=actor, property_id=actor.property_ids[0])
    for each in known:
        if each.group_id == group_id:
            return _write(request, each)
    raise Http404


def _write(request: HttpRequest, group: Group | None) -> HttpResponse:
    """The form, the look at what changes, and the press that proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    asked = Asked(request.POST) if request.method == "POST" else None
    chosen = {str(each) for each, _ in group.places} if group else {str(place.property_id)}
    wanted = None
    if asked is not None:
        chosen = set(asked.several("place"))
        wanted, reason = _wanted(request, group, asked, place.property_id, chosen)
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return _show(request, group, asked, wanted, chosen, now)


def _wanted(
    request: HttpRequest, group: Group | None, asked: Asked, property_id: int, chosen: set[str]
) -> tuple[Wanted | None, str]:
    name = asked.line("name", most=groups.NAME_MAX, needed=True)
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    places = [int(each) for each in chosen if each.isascii() and each.isdigit() and len(each) < 19]
    if asked.faults:
        return None, reason
    try:
        wanted = groups.wanted_group(
            actor=actor_of(request), property_id=property_id, name=name, places=places,
            group_id=group.group_id if group else None,
        )  # fmt: skip
    except GroupRefused as refusal:
        field = "name" if refusal.reason in ("name", "same") else "place"
        asked.faults[field] = str(sign_in_words.GROUP_REFUSED[refusal.reason])
        return None, reason
    return wanted, reason


def _show(
    request: HttpRequest, group: Group | None, asked: Asked | None, wanted: Wanted | None,
    chosen: set[str], now: datetime,
) -> HttpResponse:  # fmt: skip
    actor = actor_of(request)
    places = groups.own_places(actor=actor)
    return deeds.show(
        request, "group", place=place_for(actor), now=now, tab="groups", group=group,
        path=f"/people/groups/{group.group_id}" if group else "/people/groups/new",
        choices=[(each, name, str(each) in chosen) for each, name in places],
        **look_context(request, asked, wanted, now, name=group.name if group else ""),
    )  # fmt: skip
