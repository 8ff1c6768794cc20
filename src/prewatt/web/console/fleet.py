"""The fleet: how devices are heard, by driver, gateway, firmware or model."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from prewatt.reports.fleet import BY, SHOWN_MAX, SORTS, Fleet, fleet
from prewatt.web import clock
from prewatt.web.console import export, streaming
from prewatt.web.session import actor_of


def fleet_view(request: HttpRequest) -> HttpResponse:
    """Groups with their success, and the devices of one of them or of all."""
    chosen = _chosen(request)
    found = _found(request, chosen)
    return render(
        request,
        "prewatt/pages/fleet.html",
        {
            "fleet": found, "place": found.place, "now": found.now, "tab": "fleet",
            "filters": urlencode(chosen), "most": SHOWN_MAX,
            "groups": [
                (each, urlencode({**chosen, "only": each.name or ""})) for each in found.groups
            ],
            "head": _NAMES[chosen["by"]](), "has_only": "only" in chosen, **chosen,
        },
    )  # fmt: skip


def fleet_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same devices as a file for a spreadsheet, all of them."""
    found = _found(request, _chosen(request), most=None)
    return streaming.csv_file(request, "fleet.csv", export.fleet(found))


_NAMES = {
    "driver": lambda: _("Driver"),
    "gateway": lambda: _("Gateway"),
    "firmware": lambda: _("Firmware"),
    "model": lambda: _("Model"),
}


def _found(request: HttpRequest, chosen: dict[str, str], most: int | None = SHOWN_MAX) -> Fleet:
    return fleet(
        actor=actor_of(request), now=clock.now(), by=chosen["by"], only=chosen.get("only"),
        sort=chosen["sort"], most=most,
    )  # fmt: skip


def _chosen(request: HttpRequest) -> dict[str, str]:
    by, sort = request.GET.get("by", ""), request.GET.get("sort", "")
    chosen = {
        "by": by if by in BY else "driver",
        "sort": sort if sort in SORTS else "success",
    }
    if "only" in request.GET:
        chosen["only"] = request.GET["only"].replace("\0", "")[:80]
    return chosen
