"""A charged reading put right: which one, what its two intervals then cost, and the deed with its proof, or its proposal."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.core.civil_time import utc_datetime
from prewatt.core.readings import ACTIVE_IMPORT, Quality
from prewatt.moves.agreed_edits import wanted_edit
from prewatt.moves.edits import PROOF_MAX, REASON_MAX, EditRefused, ReadingCorrected
from prewatt.reports.held import ChargedReading, MeterPage
from prewatt.reports.held_query import charged_readings, meter_page
from prewatt.web import clock
from prewatt.web.console.agreeing import (
    agreed_or_proposed,
    look_context,
    presses,
    waiting_context,
)
from prewatt.web.console.asked import Asked
from prewatt.web.console.moves import register_of
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

#: Instants beyond this are no reading's (the year 2255, in µs).
_AT_MAX: Final = 9 * 10**15
#: What the form carries on to the press.
FIELDS: Final = ("at", "what", "register", "reason", "proof")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def correct_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """Choose a reading, look at what the right value changes, and put it right or propose it."""
    actor = actor_of(request)
    require(actor, "mdm.edit")
    page = meter_page(actor=actor, meter_id=meter_id, now=clock.now())
    asked = Asked(request.POST if request.method == "POST" else request.GET)
    at = _instant(asked)
    until = at or asked.instant("until", page.place.time_zone) or page.now
    known = charged_readings(actor=actor, meter_id=meter_id, until=until)
    reading = next((each for each in known if each.read_at == at), None)
    if request.method == "GET" or request.POST.get("do") == "edit" or reading is None:
        if reading:
            asked.faults.clear()
        return _show(request, page, known, reading, asked)
    what = asked.choice("what", ("correct", "withdraw"))
    value = register_of(asked, "register") if what == "correct" else None
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    proof = asked.line("proof", most=PROOF_MAX, needed=True)
    if asked.faults:
        return _show(request, page, known, reading, asked, status=422)
    try:
        wanted, seen = wanted_edit(
            actor=actor, property_id=page.place.property_id, meter_id=meter_id,
            register_code=ACTIVE_IMPORT, read_at=reading.read_at, value_wh=value, proof=proof,
            now=page.now,
        )  # fmt: skip
    except EditRefused as refused:
        problem = _said(refused)
        return _show(request, page, known, reading, asked, problem=problem, status=422)
    if presses(request):
        address = agreed_or_proposed(request, asked, wanted, reason, page.now)
        if address is not None:
            return redirect(address)
    return _show(request, page, known, reading, asked, seen=seen, wanted=wanted)


def _instant(asked: Asked) -> datetime | None:
    written = asked.text("at")
    if not (written.isascii() and written.isdigit()) or len(written) > 16:
        return None
    at_us = int(written)
    return utc_datetime(at_us) if at_us < _AT_MAX else None


def _said(refused: EditRefused) -> str:
    if refused.reason == "mdm.vee.backwards":
        return _("The register would run backwards: the reading before or after contradicts this.")
    if refused.reason.startswith("mdm.vee."):
        return str(sentences.said(sentences.VERDICT, refused.reason))
    return {
        "boundary": _(
            "One payer or device ends at this reading and the next begins. Correct the readings "
            "beside it, and settle what is between the two accounts."
        ),
        "withdrawn": _("This reading was withdrawn already."),
        "same": _("The reading has this value already."),
        "modulus": _("The register of this meter does not show such a value."),
        "last": _(
            "The last reading cannot be withdrawn. Correct it to the reading before it; the next "
            "one counts from there."
        ),
    }.get(refused.reason, _("There is no charged reading at that instant."))


def _show(
    request: HttpRequest,
    page: MeterPage,
    known: tuple[ChargedReading, ...],
    reading: ChargedReading | None,
    asked: Asked | None,
    *,
    seen: ReadingCorrected | None = None,
    wanted: Wanted | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    return render(
        request,
        "prewatt/pages/correct.html",
        {
            "page": page, "place": page.place, "now": page.now, "tab": "meters",
            "readings": known, "reading": reading, "names": FIELDS, "problem": problem,
            "seen": seen, "edited": int(Quality.EDITED), "withdrawn": int(Quality.WITHDRAWN),
            **look_context(request, asked, wanted, page.now),
            **waiting_context(request, f"meter:{page.meter_id}", page.now),
        },
        status=422 if asked and asked.faults and seen else status,
    )  # fmt: skip
