"""Readings and devices: a register read by a person, held readings decided, a meter exchanged."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import Actor, may, rehearsal, require
from prewatt.core.drivers import Driver
from prewatt.core.hand_readings import MULTIPLE
from prewatt.estate.operations import NewMeter
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.moves import operations as moves
from prewatt.moves.held import (
    REASON_MAX,
    TOGETHER_MAX,
    HeldRefused,
    Released,
    discard_reading,
    discard_readings,
    look_at_releases,
    release_reading,
    release_readings,
)
from prewatt.moves.words import (
    InFuture,
    MeterSilent,
    MoveRefused,
    NameTaken,
    ReadingBeyond,
    ReadingEntered,
    RegisterRefused,
    TooEarly,
    UnknownPlace,
)
from prewatt.reports.fitting import HungMeter, hung_meter
from prewatt.reports.held import HeldPage, HeldRow, MeterPage
from prewatt.reports.held_query import (
    SHOWS,
    SORTS,
    every_held,
    held_list,
    held_of_meter,
    held_page,
    meter_page,
)
from prewatt.reports.lists import Listing
from prewatt.reports.place import place_for
from prewatt.signing.es256 import BadKey, spki_in
from prewatt.web import clock
from prewatt.web.console import export, streaming
from prewatt.web.console.asked import Asked, key_of, written_after
from prewatt.web.console.moves import register_of, said_earliest
from prewatt.web.console.views import beside, page_of
from prewatt.web.session import actor_of
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences
from prewatt.web.ui.credit_tags import BAD_KEY
from prewatt.web.ui.format import energy
from prewatt.web.ui.tags import register_value

DRIVERS: Final = tuple(map(str, Driver))
WHY_MAX: Final = 200
REFERENCE_MAX: Final = 80


def held_view(request: HttpRequest) -> HttpResponse:
    """Readings that wait for a decision, and those that were decided."""
    chosen = _chosen(request)
    found = held_list(
        actor=actor_of(request), now=clock.now(), show=chosen["show"], query=chosen["q"],
        sort=chosen["sort"], page=page_of(request),
    )  # fmt: skip
    return render(
        request,
        "prewatt/pages/held.html",
        {
            "list": found, "place": found.place, "now": found.now, "tab": "held",
            "filters": urlencode(chosen), "text": chosen["q"],
            **beside("/meters/held", chosen, found.beside), **chosen,
        },
    )  # fmt: skip


def held_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same selection as a file for a spreadsheet."""
    chosen = _chosen(request)
    actor = actor_of(request)
    found = every_held(
        actor=actor, now=clock.now(), show=chosen["show"], query=chosen["q"], sort=chosen["sort"]
    )
    zone = place_for(actor).time_zone
    return streaming.csv_file(request, "held-readings.csv", export.held(found, zone))


def _chosen(request: HttpRequest) -> dict[str, str]:
    show, sort = request.GET.get("show", ""), request.GET.get("sort", "")
    return {
        "q": request.GET.get("q", "").replace("\0", "").strip()[:80],
        "show": show if show in SHOWS else SHOWS[0],
        "sort": sort if sort in SORTS else "received",
    }


@require_http_methods(["GET", "POST"])
def case_view(request: HttpRequest, case_id: int) -> HttpResponse:
    """One held reading: its evidence, what a release would charge, and the decision."""
    actor, now = actor_of(request), clock.now()
    page = held_page(actor=actor, case_id=case_id, now=now)
    if request.method == "GET":
        return _show_case(request, page, None)
    require(actor, "mdm.release")
    asked = Asked(request.POST)
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    do = asked.choice("do", ("release", "discard"))
    if asked.faults:
        return _show_case(request, page, asked, status=422)
    decide = release_reading if do == "release" else discard_reading
    try:
        decide(actor=actor, case_id=case_id, reason=reason, now=now)
    except HeldRefused as refused:
        problem = _held_said(refused, page.case.verdict)
        return _show_case(request, page, asked, problem=problem, status=422)
    return redirect(f"/meters/held/{case_id}")


def _held_said(refused: HeldRefused, held_as: str = "") -> str:
    """Why a reading cannot be released; ``held_as`` is the verdict it was held with, where it is known."""
    if refused.reason == "closed":
        return _("Somebody has decided about this reading already.")
    if refused.reason == "mdm.vee.backwards" and held_as == "mdm.vee.implausible":
        # It was above all before it, so it is lower readings after it that stand against it.
        return _("What the meter has reported since is lower, so it cannot have stood there.")
    return str(sentences.said(sentences.VERDICT, refused.reason))


def _show_case(
    request: HttpRequest,
    page: HeldPage,
    asked: Asked | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    seen, cannot = _looked(actor_of(request), page)
    return render(
        request,
        "prewatt/pages/held_case.html",
        {
            "page": page, "case": page.case, "place": page.place, "now": page.now, "tab": "held",
            "seen": seen, "cannot": cannot, "problem": problem,
            "form": asked.values if asked else {}, "faults": asked.faults if asked else {},
        },
        status=status,
    )  # fmt: skip


def _looked(actor: Actor, page: HeldPage) -> tuple[Released | None, str]:
    """What a release would do, or why it cannot; nothing for who may not release."""
    if page.case.state != "held" or not may(actor, "mdm.release"):
        return None, ""
    try:
        (found,) = look_at_releases(actor=actor, case_ids=[page.case.case_id], now=page.now)
    except HeldRefused as refused:
        found = refused
    if isinstance(found, HeldRefused):
        return None, _held_said(found, page.case.verdict)
    return found, ""


@require_http_methods(["GET", "POST"])
def together_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """All that is held of one meter: what each would charge after those before it, and one decision."""
    actor, now = actor_of(request), clock.now()
    found = held_of_meter(actor=actor, meter_id=meter_id, now=now)
    if request.method == "GET":
        return _show_together(request, meter_id, found, None)
    require(actor, "mdm.release")
    asked = Asked(request.POST)
    chosen = _ticked(found, asked)
    do = asked.choice("do", ("look", "release", "discard"))
    if not chosen:
        asked.faults["case"] = _("Tick at least one reading.")
    if do == "look" or asked.faults:
        status = 422 if asked.faults else 200
        return _show_together(request, meter_id, found, asked, status=status)
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    if asked.faults:
        return _show_together(request, meter_id, found, asked, status=422)
    decide = release_readings if do == "release" else discard_readings
    try:
        decide(actor=actor, case_ids=chosen, reason=reason, now=now)
    except HeldRefused as refused:
        problem = _held_said(refused)
        return _show_together(request, meter_id, found, asked, problem=problem, status=422)
    serial = found.rows[0].serial
    return redirect(f"/meters/held?{urlencode({'show': 'closed', 'q': serial, 'sort': 'meter'})}")


def _ticked(found: Listing[HeldRow], asked: Asked | None) -> list[int]:
    """The readings that are decided about; all of them before anybody chose."""
    if asked is None:
        return [row.case_id for row in found.rows]
    written = set(asked.data.getlist("case")[:TOGETHER_MAX])
    return [row.case_id for row in found.rows if str(row.case_id) in written]


def _show_together(
    request: HttpRequest,
    meter_id: int,
    found: Listing[HeldRow],
    asked: Asked | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    actor, chosen = actor_of(request), _ticked(found, asked)
    meter = meter_page(actor=actor, meter_id=meter_id, now=found.now)
    seen: dict[int, Released | HeldRefused] = {}
    if chosen and may(actor, "mdm.release"):
        # A look at readings of which some were decided meanwhile has nothing to show.
        with suppress(HeldRefused):
            looked = look_at_releases(actor=actor, case_ids=chosen, now=found.now)
            seen = {each.case_id: each for each in looked}
    released = [each for each in seen.values() if isinstance(each, Released)]
    if asked is None and released:
        # Before anybody chose, what can be released is ticked.
        chosen = [each.case_id for each in released]
    cannot = {
        each.case_id: _held_said(each) for each in seen.values() if isinstance(each, HeldRefused)
    }
    return render(
        request,
        "prewatt/pages/held_together.html",
        {
            "list": found, "place": found.place, "now": found.now, "tab": "held", "meter": meter,
            "lines": [
                (row, row.case_id in chosen, seen.get(row.case_id), cannot.get(row.case_id, ""))
                for row in found.rows
            ],
            "ready": bool(released) and len(released) == len(chosen), "count": len(chosen),
            "charged_micro": sum(each.charged_micro for each in released), "problem": problem,
            "form": asked.values if asked else {}, "faults": asked.faults if asked else {},
        },
        status=status,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def read_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """A register read by a person: what it will charge, then the reading itself."""
    actor = actor_of(request)
    require(actor, "mdm.read_manually")
    page = meter_page(actor=actor, meter_id=meter_id, now=clock.now())
    if request.method == "GET" or request.POST.get("do") == "edit":
        asked = Asked(request.POST) if request.method == "POST" else None
        return _show_read(request, page, asked)
    asked = Asked(request.POST)
    at = asked.instant("at", page.place.time_zone)
    if at is None:
        asked.faults.setdefault("at", _("Still to be filled in."))
    value = register_of(asked, "register")
    reason = asked.line("reason", most=WHY_MAX, needed=True)
    reference = asked.line("reference", most=REFERENCE_MAX)
    if asked.faults or at is None:
        return _show_read(request, page, asked, status=422)

    def enter() -> ReadingEntered:
        return moves.manual_reading(
            actor=actor, meter_id=meter_id, value_wh=value, read_at=at, now=page.now,
            reason=reason, reference=reference,
        )  # fmt: skip

    try:
        if request.POST.get("do") == "confirm":
            entered = enter()
            after = meter_page(actor=actor, meter_id=meter_id, now=page.now)
        else:
            with rehearsal():
                entered = enter()
                after = meter_page(actor=actor, meter_id=meter_id, now=page.now)
    except ReadingBeyond as refused:
        asked.faults["register"] = _beyond_said(refused)
        return _show_read(request, page, asked, status=422)
    except MoveRefused:
        problem = _("Nobody pays by this meter, so nothing can be charged.")
        return _show_read(request, page, asked, problem=problem, status=422)
    done = request.POST.get("do") == "confirm"
    return _show_read(
        request, page, asked, entered=entered, after=after, done=done, value=value,
        verdict=_verdict_said(entered, at, page),
    )  # fmt: skip


def _verdict_said(entered: ReadingEntered, at: datetime, page: MeterPage) -> str:
    """What validation says; of a reading that a later one contradicts, which that is."""
    if not entered.held or page.last_at is None or at >= page.last_at:
        return sentences.said(sentences.VERDICT, entered.verdict)
    language = get_language() or "en"
    return _(
        "There is a later reading already: %(register)s, %(at)s. This one does not fit between the readings around it. Look at its time again."
    ) % {
        "register": register_value(page.last_wh, unit=True),
        "at": fmt.stamp(page.last_at, page.now, page.place.time_zone, language, seconds=True),
    }


def _beyond_said(refused: ReadingBeyond) -> str:
    language = get_language() or "en"
    return _(
        "That would charge %(energy)s since the meter itself was heard; at most %(most)s is plausible there, %(n)s times what it usually counts. Look at the display again. An administrator may enter it."
    ) % {
        "energy": energy(refused.energy_wh, language),
        "most": energy(refused.plausible_wh, language),
        "n": MULTIPLE,
    }


def _show_read(
    request: HttpRequest,
    page: MeterPage,
    asked: Asked | None,
    *,
    entered: ReadingEntered | None = None,
    after: MeterPage | None = None,
    done: bool = False,
    value: int = 0,
    verdict: str = "",
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    defaults = {"at": written_after(page.last_at, page.now, page.place.time_zone)}
    values = defaults | (asked.values if asked else {})
    charged = page.available_micro - after.available_micro if after else 0
    return render(
        request,
        "prewatt/pages/read.html",
        {
            "page": page, "place": page.place, "now": page.now, "tab": "meters",
            "form": values, "faults": asked.faults if asked else {}, "problem": problem,
            "sent": kept(values), "entered": entered, "after": after, "done": done,
            "charged_micro": -charged, "value": value, "verdict": verdict,
        },
        status=status,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def exchange_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """One device away, another in its place; the account goes on."""
    actor = actor_of(request)
    require(actor, "estate.write")
    page = meter_page(actor=actor, meter_id=meter_id, now=clock.now())
    if request.method == "GET" or request.POST.get("do") == "edit":
        asked = Asked(request.POST) if request.method == "POST" else None
        return _show_exchange(request, page, asked)
    asked = Asked(request.POST)
    at = closing = None
    if asked.choice("how", ("meter", "typed")) != "meter":
        at = asked.instant("at", page.place.time_zone)
        if at is None:
            asked.faults.setdefault("at", _("Still to be filled in."))
        closing = register_of(asked, "closing")
    new = new_meter_of(asked)
    opening = register_of(asked, "opening")
    public_key = _public_key_of(asked)
    if asked.faults:
        return _show_exchange(request, page, asked, status=422)
    key, sure = key_of(request), request.POST.get("do") == "confirm"

    def exchange(under: str) -> MeterPage:
        done = moves.exchange_meter(
            actor=actor, meter_id=meter_id, closing_wh=closing, new_meter=new, opening_wh=opening,
            at=at, key=under, now=page.now, public_key=public_key,
        )  # fmt: skip
        return meter_page(actor=actor, meter_id=done.new_meter_id, now=page.now)

    try:
        if sure:
            after = exchange(key)
            return redirect(f"/units/{after.unit_id}?exchanged={after.meter_id}")
        with rehearsal():
            after = exchange(f"look:{key}")
    except (MoveRefused, PeriodClosed, KeyReused, BadKey) as refused:
        problem = exchange_said(asked, refused, serial=page.serial, zone=page.place.time_zone)
        return _show_exchange(request, page, asked, problem=problem, status=422)
    return _show_exchange(request, page, asked, after=after, closing=closing, opening=opening)


def _public_key_of(asked: Asked) -> bytes | None:
    """The key of the new meter as SubjectPublicKeyInfo; None where it signs nothing, or nobody has it yet."""
    text = asked.text("public_key", 2_000).strip()
    try:
        return spki_in(text.encode()) if text else None
    except BadKey:
        asked.faults["public_key"] = str(BAD_KEY)
        return None


def new_meter_of(asked: Asked) -> NewMeter:
    """The device that a form describes."""
    power = asked.thousandths("max_power")
    if power is None:
        asked.faults.setdefault("max_power", _("Still to be filled in."))
    elif power == 0:
        asked.faults["max_power"] = _("This must be more than zero.")
    return NewMeter(
        serial=asked.line("serial", most=32, needed=True),
        model=asked.line("model", most=60),
        driver=asked.choice("driver", DRIVERS),
        multiplier=asked.whole("multiplier", least=1, most=100_000),
        max_power_w=power or 1,
        has_relay=bool(asked.text("has_relay")),
        expected_period_s=asked.whole("period", least=1, most=1_440) * 60,
    )


def exchange_said(asked: Asked, refused: Exception, *, serial: str, zone: str) -> str:
    """Put a refusal beside its field, or return what the form as a whole is told."""
    if isinstance(refused, TooEarly):
        asked.faults["at"] = said_earliest(refused, zone)
    elif isinstance(refused, InFuture):
        asked.faults["at"] = _("That has not come yet. Write it down when it has happened.")
    elif isinstance(refused, PeriodClosed):
        asked.faults["at"] = _("The books of that day are closed.")
    elif isinstance(refused, NameTaken):
        asked.faults["serial"] = _("There is a meter with this serial already.")
    elif isinstance(refused, RegisterRefused):
        field = "closing" if refused.serial == serial else "opening"
        asked.faults[field] = str(sentences.said(sentences.VERDICT, refused.verdict))
    elif isinstance(refused, MeterSilent):
        asked.faults["how"] = _("The old meter is silent. Read its register and write it down.")
    elif isinstance(refused, BadKey):
        asked.faults["public_key"] = str(BAD_KEY)
    elif isinstance(refused, UnknownPlace):
        return _("This meter has been taken away already.")
    elif isinstance(refused, KeyReused):
        return _("This form was already used. Look at the unit before you do it again.")
    else:
        return str(refused)
    return ""


def _show_exchange(
    request: HttpRequest,
    page: MeterPage,
    asked: Asked | None,
    *,
    after: MeterPage | None = None,
    closing: int | None = None,
    opening: int = 0,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    values = as_it_hangs(page, asked) | (asked.values if asked else {})
    return render(
        request,
        "prewatt/pages/exchange.html",
        {
            "page": page, "place": page.place, "now": page.now, "tab": "meters",
            "form": values, "faults": asked.faults if asked else {}, "problem": problem,
            "sent": kept(values), "after": after, "key": key_of(request),
            "closing": page.last_wh if closing is None else closing, "opening": opening,
            "drivers": [(each, sentences.said(sentences.DRIVER, each)) for each in DRIVERS],
            "holds_credit": hung_meter(
                actor=actor_of(request), meter_id=page.meter_id, now=page.now
            ).holds_credit,
        },
        status=status,
    )  # fmt: skip


def as_it_hangs(page: MeterPage | HungMeter, asked: Asked | None) -> dict[str, str]:
    """What the form of an exchange begins with: another of the same kind."""
    return {
        "how": "typed" if page.silent else "meter",
        "at": written_after(page.last_at, page.now, page.place.time_zone),
        "driver": page.driver,
        "model": page.model,
        "multiplier": str(page.multiplier),
        "max_power": kilowatts(page.max_power_w),
        "period": str(max(page.expected_period_s // 60, 1)),
        # A tick that was taken away is in no form that was sent.
        "has_relay": "1" if page.has_relay and asked is None else "",
        "opening": "0",
    }


def kilowatts(watts: int) -> str:
    """A power in kW as a form takes it."""
    whole, part = divmod(watts, 1000)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".")


def kept(values: dict[str, Any]) -> list[tuple[str, str]]:
    """What a look hands on to its confirmation."""
    return sorted(
        (name, text)
        for name, text in values.items()
        if name not in ("csrfmiddlewaretoken", "do", "key")
    )
