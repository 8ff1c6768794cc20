"""What a person sees when something did not happen: what is safe, what to do, and a reference."""

from __future__ import annotations

import logging
import secrets
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from prewatt.web.rules import API

_log = logging.getLogger("prewatt.web")
#: What a program is told of what no view of the API answered: its code and a sentence, as `api.problems` has them.
_TO_PROGRAMS: Final = {
    "not_found": ("api.unknown", "There is no such address."),
    "forbidden": ("api.permission", "This may not be done. Nothing was done."),
    "csrf": ("api.permission", "This may not be done. Nothing was done."),
    "bad_request": (
        "api.malformed",
        "What was sent cannot be read, or is too large. Nothing was done.",
    ),
    "broken": ("api.broken", "This is our fault."),
}


def reference() -> str:
    """Four letters and digits that tie what a person reads to a line in the log."""
    return secrets.token_hex(2).upper()


def _page(request: HttpRequest, kind: str, status: int) -> HttpResponse:
    ref = reference()
    _log.warning("answered %s to %s %s, reference %s", status, request.method, request.path, ref)
    if request.path.startswith(f"/{API}"):
        code, message = _TO_PROGRAMS[kind]
        return JsonResponse({"code": code, "message": f"{message} Reference {ref}."}, status=status)
    return render(
        request,
        "prewatt/pages/error.html",
        {"kind": kind, "reference": ref},
        status=status,
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404."""
    return _page(request, "not_found", 404)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403: the duty or the property does not allow it."""
    return _page(request, "forbidden", 403)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400."""
    return _page(request, "bad_request", 400)


def csrf_failed(request: HttpRequest, reason: str = "", **_: Any) -> HttpResponse:
    """403: the form is not one of ours, or too old."""
    return _page(request, "csrf", 403)


def broken(request: HttpRequest) -> HttpResponse:
    """500: our fault; the exception itself is in the log just before this line."""
    return _page(request, "broken", 500)
