"""The fleet: how devices are heard, by driver, gateway, firmware, configuration or model, and by several of them."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from prewatt.reports.fleet import SHOWN_MAX, SORTS, WORDS, Fleet, fleet
from prewatt.web import clock
from prewatt.web.console import export, streaming
from prewatt.web.session import actor_of
from prewatt.web.ui import fleet_words


def fleet_view(request: HttpRequest) -> HttpResponse:
    """Groups with their success, and the devices of what was chosen, or all."""
    by, sort, only = _chosen(request)
    found = _found(request)
    chosen = {"by": by, "sort": sort, **only}
    return render(
        request,
        "prewatt/pages/fleet.html",
        {
            "fleet": found, "place": found.place, "now": found.now, "tab": "fleet", "by": by, "sort": sort,
            "filters": urlencode(chosen), "most": SHOWN_MAX, "words": [(word, fleet_words.FILTER[word]) for word in WORDS],
            "head": fleet_words.FILTER[by], "only": only,
            # A group leads to its devices, grouped by what is not chosen yet.
            "groups": [
                (each, urlencode({**chosen, by: each.name or "", "by": _next(by, only)}))
                for each in found.groups
            ],
            "narrowed": [
                (fleet_words.FILTER[word], fleet_words.named(word, value),
                 urlencode({name: each for name, each in chosen.items() if name != word}))
                for word, value in only.items()
            ],
        },
    )  # fmt: skip


def fleet_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same devices as a file for a spreadsheet, all of them."""
    return streaming.csv_file(request, "fleet.csv", export.fleet(_found(request, most=None)))


def _found(request: HttpRequest, most: int | None = SHOWN_MAX) -> Fleet:
    by, sort, only = _chosen(request)
    return fleet(actor=actor_of(request), now=clock.now(), by=by, only=only, sort=sort, most=most)


def _chosen(request: HttpRequest) -> tuple[str, str, dict[str, str]]:
    """By what is grouped, how sorted, and the words of the devices that are looked at."""
    by, sort = request.GET.get("by", ""), request.GET.get("sort", "")
    only = {word: request.GET[word].replace("\0", "")[:80] for word in WORDS if word in request.GET}
    return by if by in WORDS else WORDS[0], sort if sort in SORTS else "success", only


def _next(by: str, only: dict[str, str]) -> str:
    return next((word for word in WORDS if word not in only and word != by), by)
