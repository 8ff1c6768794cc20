"""Meters exchanged and fitted by who stands before them: a form for a phone, a look, one press, and what was heard since.

Of money and people these pages know nothing but the number of the account; those of the console show both.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import rehearsal, require
from prewatt.core.field_rules import BOUNDS, FieldRules
from prewatt.estate.operations import NewMeter
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.moves import operations as moves
from prewatt.moves.commissioning import (
    Fitting,
    FittingRefused,
    NotASerial,
    NotChecked,
    UnitMetered,
    UnitUnpaid,
    end_check,
    fit_meters,
)
from prewatt.moves.concentrators import ConcentratorRefused
from prewatt.moves.field_rules import set_field_rules
from prewatt.moves.words import (
    InFuture,
    MoveRefused,
    NameTaken,
    RegisterRefused,
    TooEarly,
    UnknownPlace,
)
from prewatt.reports.fitting import (
    Fittable,
    HungMeter,
    UnitToFit,
    fittable,
    fitted_meter,
    fitted_meters,
    hung_meter,
)
from prewatt.web import clock
from prewatt.web.console.asked import Asked, key_of, written_local
from prewatt.web.console.deeds import form_context, show
from prewatt.web.console.moves import register_of, said_earliest
from prewatt.web.console.readings import (
    DRIVERS,
    as_it_hangs,
    exchange_said,
    kept,
    kilowatts,
    new_meter_of,
)
from prewatt.web.headers import may_scan
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

NOTE_MAX: Final = 200
_HOUR_S: Final = 3_600


@require_http_methods(["GET", "POST"])
def exchange_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """One device away, another in its place."""
    page = hung_meter(actor=actor_of(request), meter_id=meter_id, now=clock.now())
    if request.method == "GET" or request.POST.get("do") == "edit":
        return _show_exchange(request, page, Asked(request.POST) if request.POST else None)
    asked = Asked(request.POST)
    at = closing = None
    if asked.choice("how", ("meter", "typed")) != "meter":
        at = _instant(asked, page.place.time_zone)
        closing = register_of(asked, "closing")
    new, opening = new_meter_of(asked), register_of(asked, "opening")
    if asked.faults:
        return _show_exchange(request, page, asked, status=422)
    key, sure = key_of(request), request.POST.get("do") == "confirm"

    def exchange(under: str) -> HungMeter:
        done = moves.exchange_meter(
            actor=actor_of(request), meter_id=meter_id, closing_wh=closing, new_meter=new,
            opening_wh=opening, at=at, key=under, now=page.now,
        )  # fmt: skip
        return hung_meter(actor=actor_of(request), meter_id=done.new_meter_id, now=page.now)

    try:
        if sure:
            return redirect(f"/work/{exchange(key).meter_id}/check")
        with rehearsal():
            after = exchange(f"look:{key}")
    except (MoveRefused, PeriodClosed, KeyReused) as refused:
        problem = exchange_said(asked, refused, serial=page.serial, zone=page.place.time_zone)
        return _show_exchange(request, page, asked, problem=problem, status=422)
    return _show_exchange(request, page, asked, after=after, closing=closing, opening=opening)


def _show_exchange(
    request: HttpRequest,
    page: HungMeter,
    asked: Asked | None,
    *,
    after: HungMeter | None = None,
    closing: int | None = None,
    opening: int = 0,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context = form_context(asked, **as_it_hangs(page, asked))
    return may_scan(
        show(
            request, "work_exchange", place=page.place, now=page.now, tab="work", status=status,
            page=page, after=after, opening=opening, problem=problem, key=key_of(request),
            closing=page.last_wh if closing is None else closing, drivers=_drivers(),
            sent=kept(context["form"]), **context,
        )
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def fit_view(request: HttpRequest) -> HttpResponse:
    """One device in a unit that has none, or beside the one it has."""
    place = fittable(actor=actor_of(request), now=clock.now())
    if request.method == "GET" or request.POST.get("do") == "edit":
        return _show_fit(request, place, Asked(request.POST) if request.POST else None)
    asked = Asked(request.POST)
    unit, fitting = _fitting(asked, place)
    if asked.faults or unit is None:
        return _show_fit(request, place, asked, status=422)
    key, sure = key_of(request), request.POST.get("do") == "confirm"

    def fit(under: str) -> HungMeter:
        done = fit_meters(
            actor=actor_of(request), property_id=place.place.property_id, fittings=[fitting], key=under,
            now=place.now,
        )  # fmt: skip
        return hung_meter(actor=actor_of(request), meter_id=done.meter_ids[0], now=place.now)

    try:
        if sure:
            return redirect(f"/work/{fit(key).meter_id}/check")
        with rehearsal():
            after = fit(f"look:{key}")
    except KeyReused:
        problem = _("This form was already used. Look at the unit before you do it again.")
        return _show_fit(request, place, asked, problem=problem, status=422)
    except FittingRefused as refused:
        problem = fitting_said(asked.faults, refused.why, place.place.time_zone)
        return _show_fit(request, place, asked, problem=problem, status=422)
    return _show_fit(request, place, asked, after=after, unit=unit, fitting=fitting)


def _fitting(asked: Asked, place: Fittable) -> tuple[UnitToFit | None, Fitting]:
    unit = place.named(asked.line("unit", most=40, needed=True))
    if unit is None and "unit" not in asked.faults:
        asked.faults["unit"] = _(
            "There is no such unit, or more than one. Choose it from the list."
        )
    at = _instant(asked, place.place.time_zone)
    behind = asked.choice("concentrator", ("", *place.concentrators))
    return unit, Fitting(
        unit_id=0 if unit is None else unit.unit_id,
        meter=new_meter_of(asked),
        opening_wh=register_of(asked, "opening"),
        at=at or place.now,
        beside=bool(asked.text("beside")),
        concentrator=behind,
    )


def _instant(asked: Asked, zone: str) -> datetime | None:
    at = asked.instant("at", zone)
    if at is None:
        asked.faults.setdefault("at", _("Still to be filled in."))
    return at


def fitting_said(faults: dict[str, str], refused: Exception, zone: str) -> str:
    """Put a refusal beside its field, or return what the form as a whole is told."""
    if isinstance(refused, TooEarly):
        faults["at"] = said_earliest(refused, zone)
    elif isinstance(refused, InFuture):
        faults["at"] = _("That has not come yet. Write it down when it has happened.")
    elif isinstance(refused, PeriodClosed):
        faults["at"] = _("The books of that day are closed.")
    elif isinstance(refused, NameTaken):
        faults["serial"] = _("There is a meter with this serial already.")
    elif isinstance(refused, NotASerial):
        faults["serial"] = _(
            "No device has such a serial: letters, digits, dots and dashes, at most 32."
        )
    elif isinstance(refused, RegisterRefused):
        faults["opening"] = str(sentences.said(sentences.VERDICT, refused.verdict))
    elif isinstance(refused, UnitMetered):
        faults["unit"] = _(
            "A meter counts there already. Exchange it, or say that this one comes beside it."
        )
    elif isinstance(refused, UnitUnpaid):
        faults["unit"] = _(
            "Nobody pays there, not even the owner. An administrator opens an account first."
        )
    elif isinstance(refused, UnknownPlace):
        faults["unit"] = _("This is not there any more. Choose another.")
    elif isinstance(refused, ConcentratorRefused):
        faults["concentrator"] = _("It cannot speak for this meter from then on.")
    else:
        return str(refused)
    return ""


def _show_fit(
    request: HttpRequest,
    place: Fittable,
    asked: Asked | None,
    *,
    after: HungMeter | None = None,
    unit: UnitToFit | None = None,
    fitting: Fitting | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    defaults = NewMeter("")
    context = form_context(
        asked,
        unit=request.GET.get("unit", "")[:40],
        at=written_local(place.now, place.place.time_zone),
        driver=DRIVERS[0],
        multiplier=str(defaults.multiplier),
        max_power=kilowatts(defaults.max_power_w),
        period=str(defaults.expected_period_s // 60),
        has_relay="1" if asked is None else "",
        opening="0",
    )
    return may_scan(
        show(
            request, "work_fit", place=place.place, now=place.now, tab="fitted", status=status,
            list=place, after=after, unit=unit, fitting=fitting, problem=problem, key=key_of(request),
            drivers=_drivers(), behind=[("", _("none")), *((each, each) for each in place.concentrators)],
            sent=kept(context["form"]), **context,
        )
    )  # fmt: skip


def _drivers() -> list[tuple[str, str]]:
    return [(each, sentences.said(sentences.DRIVER, each)) for each in DRIVERS]


@require_http_methods(["GET", "POST"])
def fitted_view(request: HttpRequest) -> HttpResponse:
    """Devices that are waited for or still to be looked at; an administrator says how long is waited."""
    actor, now = actor_of(request), clock.now()
    page = fitted_meters(actor=actor, now=now)
    asked = None
    if request.method == "POST":
        require(actor, "estate.write")
        asked = Asked(request.POST)
        hours = {
            name: asked.whole(
                name, least=max(BOUNDS[name][0] // _HOUR_S, 1), most=BOUNDS[name][1] // _HOUR_S
            )
            for name in ("hear_within_s", "concentrator_silent_s")
        }
        if not asked.faults:
            rules = FieldRules(**{name: each * _HOUR_S for name, each in hours.items()})
            set_field_rules(actor=actor, property_id=page.place.property_id, rules=rules, now=now)
            return redirect("/work/fitted")
    context = form_context(
        asked,
        hear_within_s=str(page.rules.hear_within_s // _HOUR_S),
        concentrator_silent_s=str(max(page.rules.concentrator_silent_s // _HOUR_S, 1)),
    )
    return show(
        request, "work_fitted", place=page.place, now=now, tab="fitted", list=page,
        status=422 if asked else 200, **context,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def check_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """What a fitted device has said since, live; whoever has looked at it ends it."""
    actor, now = actor_of(request), clock.now()
    page = fitted_meter(actor=actor, meter_id=meter_id, now=now)
    asked = None
    if request.method == "POST":
        require(actor, "estate.meters")
        asked = Asked(request.POST)
        note = asked.line("note", most=NOTE_MAX)
        if not asked.faults:
            try:
                end_check(
                    actor=actor, property_id=page.place.property_id, meter_id=meter_id, note=note, now=now
                )  # fmt: skip
                return redirect(f"/work/{meter_id}/check")
            except NotChecked:
                asked.faults["note"] = _(
                    "Something is missing still: say why it is in service anyway."
                )
            except UnknownPlace:
                return redirect(f"/work/{meter_id}/check")
    return show(
        request, "work_check", place=page.place, now=now, tab="fitted", meter=page.meters[0],
        contact=page.meters[0].contact, status=422 if asked else 200, **form_context(asked),
    )  # fmt: skip
