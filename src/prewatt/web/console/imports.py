"""The tables of a new property, checked before anybody imports them: every bad row, by place.

What was found is kept for an hour under a name that nobody can guess, so that the list can be sorted,
filtered and taken along without sending the files again. Nothing is written to the database.
"""

from __future__ import annotations

import secrets
import shlex
from typing import Final, TypedDict
from urllib.parse import urlencode

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.estate.sheets import SHEETS, ImportRefused, RowError, read_uploads
from prewatt.moves.onboarding import TablesSeen, look_at_tables
from prewatt.reports.estate_query import property_page
from prewatt.reports.place import NoSuchThing
from prewatt.web import clock
from prewatt.web.console import export
from prewatt.web.console.sheet_writer import SheetWriter
from prewatt.web.session import actor_of

#: All files of one upload together; `prewatt import` takes more.
UPLOAD_MAX: Final = 8 * 1024 * 1024
FILES_MAX: Final = 20
KEPT_S: Final = 3_600
SORTS: Final = ("place", "column", "problem")


class Found(TypedDict):
    """What a check found: the errors, how many there are in all, and what the tables hold if none."""

    files: list[str]
    errors: list[RowError]
    total: int
    seen: TablesSeen | None


@require_http_methods(["GET", "POST"])
def import_view(request: HttpRequest) -> HttpResponse:
    """Ask for the tables, check them, and show all that is wrong or what they hold."""
    require(actor_of(request), "estate.check_import")
    if request.method == "POST":
        return _check(request)
    return _show(request)


def import_csv(request: HttpRequest) -> HttpResponse:
    """The errors of a check as a file for a spreadsheet."""
    require(actor_of(request), "estate.check_import")
    found = _kept(request)
    if found is None:
        raise NoSuchThing("the check is not kept any more")
    rows, _chosen = _chosen_rows(request, found)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="import-errors.csv"'
    response.write("\ufeff")
    export.import_errors(SheetWriter(response), rows)
    return response


def _check(request: HttpRequest) -> HttpResponse:
    files = request.FILES.getlist("files")
    if not files:
        return _show(request, problem=_("Choose the files first."), status=422)
    if len(files) > FILES_MAX or sum(each.size or 0 for each in files) > UPLOAD_MAX:
        problem = _("That is more than 8 MiB or 20 files. Larger ones go in by prewatt import.")
        return _show(request, problem=problem, status=422)
    found = Found(
        files=[shlex.quote(str(each.name)) for each in files], errors=[], total=0, seen=None
    )
    try:
        sheets = read_uploads([(str(each.name), each.read()) for each in files])
        found["seen"] = look_at_tables(actor=actor_of(request), sheets=sheets, now=clock.now())
    except ImportRefused as refused:
        found["errors"], found["total"] = list(refused.errors), refused.total
    name = secrets.token_urlsafe(16)
    cache.set(_key(request, name), found, KEPT_S)
    return redirect(f"/property/import?check={name}")


def _key(request: HttpRequest, name: str) -> str:
    return f"import-check:{actor_of(request).code}:{name}"


def _kept(request: HttpRequest) -> Found | None:
    name = request.GET.get("check", "")
    known = (
        0 < len(name) <= 40 and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    )
    found: Found | None = cache.get(_key(request, name)) if known else None
    return found


def _chosen_rows(request: HttpRequest, found: Found) -> tuple[list[RowError], dict[str, str]]:
    sort, table = request.GET.get("sort", ""), request.GET.get("table", "")
    chosen = {
        "check": request.GET.get("check", ""),
        "sort": sort if sort in SORTS else SORTS[0],
        "table": table if table in (*SHEETS, "file") else "",
    }
    rows = [each for each in found["errors"] if chosen["table"] in ("", each.sheet)]
    if chosen["sort"] != SORTS[0]:
        rows.sort(key=lambda each: str(getattr(each, chosen["sort"])))
    return rows, chosen


def _show(request: HttpRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    page = property_page(actor=actor_of(request), now=clock.now())
    found = _kept(request)
    rows, chosen = _chosen_rows(request, found) if found else ([], {})
    return render(
        request,
        "prewatt/pages/import.html",
        {
            "place": page.place, "now": page.now, "tab": "import", "found": found, "rows": rows,
            "gone": bool(request.GET.get("check")) and found is None, "problem": problem,
            "tables": [each for each in ("file", *SHEETS)
                       if found and any(row.sheet == each for row in found["errors"])],
            "sheets_known": SHEETS, "filters": urlencode(chosen), **chosen,
        },
        status=status,
    )  # fmt: skip
