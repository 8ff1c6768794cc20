"""Certificates of devices: who is enrolled, a code for one who shall be, and an end to who shall not be believed."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.devices.operations import CODE_LASTS, DeviceRefused, make_code
from prewatt.moves.enrolment import revoke_device
from prewatt.reports.certificates import (
    CERTIFICATE_SHOWS,
    CERTIFICATE_SORTS,
    certificates,
    certified_device,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

PATH: Final = "/meters/certificates"
REASON_MAX: Final = 200


def certificates_view(request: HttpRequest) -> HttpResponse:
    """The devices of a property, those first whose certificate ends soonest."""
    wanted, address = deeds.chosen(request, shows=CERTIFICATE_SHOWS, sorts=CERTIFICATE_SORTS)
    found = certificates(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "certificates", found, address, path=PATH, tab="certificates",
        shows=sentences.CERTIFICATE_SHOW.items(), sorts=sentences.CERTIFICATE_SORT.items(),
    )  # fmt: skip


def certificates_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _address = deeds.chosen(request, shows=CERTIFICATE_SHOWS, sorts=CERTIFICATE_SORTS)
    found = certificates(actor=actor_of(request), now=clock.now(), **wanted | {"limit": PAGE_MAX})
    return deeds.as_csv("certificates", lambda writer: export.certificates(writer, found))


@never_cache
@require_http_methods(["GET", "POST"])
def code_view(request: HttpRequest, serial: str) -> HttpResponse:
    """A code with which this one device is enrolled, once; it is shown by the press that makes it and never again."""
    actor, now = actor_of(request), clock.now()
    require(actor, "devices.enrol")
    place, device = certified_device(actor=actor, serial=serial, now=now)
    code = ""
    if request.method == "POST":
        try:
            code = make_code(actor=actor, property_id=place.property_id, serial=serial, now=now)
        except DeviceRefused:
            return redirect(PATH)
    return deeds.show(
        request, "certificate_code", place=place, now=now, tab="certificates", device=device,
        code=code, until=now + CODE_LASTS,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def revoke_view(request: HttpRequest, serial: str) -> HttpResponse:
    """Believe one device no more, from now on."""
    actor, now = actor_of(request), clock.now()
    require(actor, "devices.revoke")
    place, device = certified_device(actor=actor, serial=serial, now=now)
    asked = Asked(request.POST) if request.method == "POST" else None
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if not asked.faults:
            try:
                revoke_device(
                    actor=actor,
                    property_id=place.property_id,
                    serial=serial,
                    reason=reason,
                    now=now,
                )
            except DeviceRefused:
                return redirect(f"{PATH}/{serial}/revoke")
            return redirect(f"{PATH}?show=revoked")
    return deeds.show(
        request, "certificate_revoke", place=place, now=now, tab="certificates", device=device,
        status=422 if asked else 200, **deeds.form_context(asked),
    )  # fmt: skip
