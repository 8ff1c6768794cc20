"""Concentrators: who gathers for whom, one registered, meters put behind it and taken away after a look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.core.serials import is_serial
from prewatt.moves.concentrators import (
    ConcentratorRefused,
    put_behind,
    register_concentrator,
    take_away,
)
from prewatt.reports.concentrators import (
    ConcentratorPage,
    MeterBehind,
    concentrator_list,
    concentrator_page,
    named_meters,
)
from prewatt.reports.place import place_for
from prewatt.web import clock
from prewatt.web.console.asked import Asked, written_local
from prewatt.web.console.deeds import form_context, show
from prewatt.web.headers import may_scan
from prewatt.web.session import actor_of

#: So many meters are moved by one press at most.
MOVED_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class _Move:
    """Meters that shall be put behind a concentrator, or taken away from it, from an instant on."""

    takes: bool
    meters: tuple[MeterBehind, ...]
    at: datetime

    @property
    def from_others(self) -> int:
        """How many another concentrator speaks for now."""
        return 0 if self.takes else sum(bool(each.concentrator) for each in self.meters)


def concentrators_view(request: HttpRequest) -> HttpResponse:
    """All of a property."""
    found = concentrator_list(actor=actor_of(request), now=clock.now())
    return show(
        request, "concentrators", place=found.place, now=found.now, tab="concentrators", list=found
    )


@require_http_methods(["GET", "POST"])
def new_view(request: HttpRequest) -> HttpResponse:
    """Register one; it speaks for nobody yet."""
    actor, now = actor_of(request), clock.now()
    place = place_for(actor, "meters.read")
    asked = Asked(request.POST) if request.method == "POST" else None
    if asked is not None:
        serial = asked.line("serial", most=32, needed=True)
        name = asked.line("name", most=60)
        if "serial" not in asked.faults and not is_serial(serial):
            asked.faults["serial"] = _(
                "No device has such a serial: letters, digits, dots and dashes, at most 32."
            )
        if not asked.faults:
            try:
                made = register_concentrator(
                    actor=actor, property_id=place.property_id, serial=serial, name=name, now=now
                )
                return redirect(f"/meters/concentrators/{made}")
            except ConcentratorRefused:
                asked.faults["serial"] = _("A device with this serial is registered already.")
    return may_scan(
        show(
            request, "concentrator_new", place=place, now=now, tab="concentrators",
            status=422 if asked else 200, **form_context(asked),
        )
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def concentrator_view(request: HttpRequest, concentrator_id: int) -> HttpResponse:
    """One, with the meters behind it; a POST looks at a move of meters first, then does it."""
    actor, now = actor_of(request), clock.now()
    page = concentrator_page(actor=actor, concentrator_id=concentrator_id, now=now)
    if request.method == "GET" or request.POST.get("do") == "edit":
        return _show(request, page, Asked(request.POST) if request.POST else None)
    require(actor, "estate.concentrators")
    asked = Asked(request.POST)
    move = _move(request, asked, page)
    if asked.faults or move is None:
        return _show(request, page, asked, status=422)
    if request.POST.get("do") != "confirm":
        return _show(request, page, asked, move=move)
    given = {
        "actor": actor, "property_id": page.place.property_id, "serial": page.concentrator.serial,
        "meters": [each.serial for each in move.meters], "at": move.at, "now": now,
    }  # fmt: skip
    try:
        if move.takes:
            take_away(**given)  # type: ignore[arg-type]
        else:
            put_behind(**given)  # type: ignore[arg-type]
    except ConcentratorRefused:
        asked.faults["serials"] = _(
            "One of them had another concentrator at that time or later. Choose a later time."
        )
        return _show(request, page, asked, status=422)
    return redirect(f"/meters/concentrators/{concentrator_id}")


def _move(request: HttpRequest, asked: Asked, page: ConcentratorPage) -> _Move | None:
    at = asked.instant("at", page.place.time_zone)
    if at is None:
        asked.faults.setdefault("at", _("Still to be filled in."))
    elif at > page.now:
        asked.faults["at"] = _("That has not come yet. Write it down when it has happened.")
    takes = asked.text("way") == "take"
    serials = list(dict.fromkeys(asked.text("serials").replace(",", " ").split()))
    if takes:
        ticked = {each for each in asked.data.getlist("meter") if each in page.serials}
        serials = sorted(ticked | {each for each in serials if each in page.serials})
    if not 0 < len(serials) <= MOVED_MAX:
        field, text = (
            ("meter", _("Tick a meter.")) if takes else ("serials", _("Write 1 to 500 serials."))
        )
        asked.faults[field] = text
        return None
    known = named_meters(actor=actor_of(request), serials=serials, now=page.now)
    missing = [each for each in serials if each not in known]
    if missing:
        asked.faults["serials"] = _("There is no meter %(serial)s here.") % {
            "serial": ", ".join(missing[:5])
        }
    if asked.faults or at is None:
        return None
    return _Move(takes, tuple(known[each] for each in serials), at)


def _show(
    request: HttpRequest,
    page: ConcentratorPage,
    asked: Asked | None,
    *,
    move: _Move | None = None,
    status: int = 200,
) -> HttpResponse:
    context = form_context(asked, at=written_local(page.now, page.place.time_zone))
    if context["form"].get("way") == "take":
        context["form"]["serials"] = ""
    return show(
        request, "concentrator", place=page.place, now=page.now, tab="concentrators", page=page,
        concentrator=page.concentrator, move=move, status=status,
        serials="\n".join(each.serial for each in move.meters) if move else "", **context,
    )  # fmt: skip
