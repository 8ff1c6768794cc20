"""Many meters fitted by one table: every bad line by its place, a look, one press.

What was read is kept for an hour under a name that nobody can guess, so that the press does the very rows that were
looked at.
"""

from __future__ import annotations

import secrets
from typing import Final

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.estate.fittings import COLUMNS, REQUIRED, TABLE, FittingRow, plan_fittings
from prewatt.estate.sheets import ImportRefused, read_upload, read_uploads
from prewatt.ledger.operations import KeyReused
from prewatt.moves.commissioning import (
    FITTED_MAX,
    Fitting,
    FittingRefused,
    fit_meters,
    refused_fittings,
)
from prewatt.reports.fitting import Fittable, fittable
from prewatt.web import clock
from prewatt.web.console.asked import key_of
from prewatt.web.console.deeds import show
from prewatt.web.console.fitting import fitting_said
from prewatt.web.session import actor_of
from prewatt.web.ui import import_words

UPLOAD_MAX: Final = 2 * 1024 * 1024
KEPT_S: Final = 3_600
#: So many rows stand on the page of the look; all are done.
SHOWN_MAX: Final = 50
Fault = tuple[int, str, str]
"""Row, column and what is wrong there, in the reader's language."""


@require_http_methods(["GET", "POST"])
def table_view(request: HttpRequest) -> HttpResponse:
    """Ask for the table, look at it, and fit what it says."""
    place = fittable(actor=actor_of(request), now=clock.now())
    if request.method == "GET":
        return _show(request, place)
    if request.POST.get("do") == "confirm":
        return _fit(request, place)
    file = request.FILES.get("file")
    if file is None or (file.size or 0) > UPLOAD_MAX:
        return _show(request, place, problem=_("Choose one file of at most 2 MiB."), status=422)
    try:
        rows = _read(str(file.name), file.read(), place)
    except ImportRefused as refused:
        faults: list[Fault] = [
            (
                each.row,
                each.column,
                f"{import_words.in_words(each.problem)} {import_words.in_words(each.remedy)}",
            )
            for each in refused.errors
        ]
        return _show(request, place, faults=faults, total=refused.total, status=422)
    faults = _refused(request, place, rows)
    if faults:
        return _show(request, place, faults=faults, total=len(faults), status=422)
    name = secrets.token_urlsafe(16)
    cache.set(_kept(request, name), rows, KEPT_S)
    return _show(request, place, rows=rows, name=name)


def _read(name: str, content: bytes, place: Fittable) -> list[FittingRow]:
    # A table alone is this one, whatever it is called.
    is_csv = name.lower().endswith(".csv")
    sheets = read_uploads([(f"{TABLE}.csv", content)]) if is_csv else read_upload(name, content)
    return plan_fittings(
        sheets, units={each.key: each.unit_id for each in place.units},
        concentrators=place.concentrators, time_zone=place.place.time_zone, now=place.now,
        most=FITTED_MAX,
    )  # fmt: skip


def _refused(request: HttpRequest, place: Fittable, rows: list[FittingRow]) -> list[Fault]:
    found = refused_fittings(
        actor=actor_of(request), property_id=place.place.property_id, fittings=_fittings(rows),
        now=place.now,
    )  # fmt: skip
    return [fault for at, why in sorted(found.items()) for fault in _said(rows[at].row, why, place)]


def _said(row: int, why: Exception, place: Fittable) -> list[Fault]:
    beside: dict[str, str] = {}
    whole = fitting_said(beside, why, place.place.time_zone)
    columns = {"at": "installed_at", "opening": "opening_wh"}
    return [(row, columns.get(name, name), text) for name, text in beside.items()] or [
        (row, "", whole)
    ]


def _fittings(rows: list[FittingRow]) -> list[Fitting]:
    return [
        Fitting(each.unit_id, each.meter, each.opening_wh, each.at, each.beside, each.concentrator)
        for each in rows
    ]


def _fit(request: HttpRequest, place: Fittable) -> HttpResponse:
    name = request.POST.get("name", "")[:40]
    rows: list[FittingRow] | None = cache.get(_kept(request, name)) if name.isascii() else None
    if rows is None:
        problem = _("What was looked at is not kept any more. Choose the file again.")
        return _show(request, place, problem=problem, status=422)
    try:
        fit_meters(
            actor=actor_of(request), property_id=place.place.property_id, fittings=_fittings(rows),
            key=key_of(request), now=clock.now(),
        )  # fmt: skip
    except FittingRefused as refused:
        faults = _said(rows[refused.at].row, refused.why, place)
        return _show(request, place, faults=faults, total=1, status=422)
    except KeyReused:
        problem = _("This form was already used. Look at the fitted meters before you do it again.")
        return _show(request, place, problem=problem, status=422)
    return redirect("/work/fitted")


def _kept(request: HttpRequest, name: str) -> str:
    return f"fittings:{actor_of(request).code}:{'.'.join(map(str, actor_of(request).property_ids))}:{name}"


def _show(
    request: HttpRequest,
    place: Fittable,
    *,
    rows: list[FittingRow] | None = None,
    name: str = "",
    faults: list[Fault] | None = None,
    total: int = 0,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    return show(
        request, "work_table", place=place.place, now=place.now, tab="fitted", status=status,
        rows=(rows or [])[:SHOWN_MAX], count=len(rows or []), name=name, wrong=(faults or [])[:200],
        total=total, problem=problem, key=key_of(request), required=REQUIRED, most=FITTED_MAX,
        optional=[each for each in COLUMNS if each not in REQUIRED],
    )  # fmt: skip
