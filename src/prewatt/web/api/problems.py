"""What a program is told when nothing was done: a stable code, and a sentence that says what to do."""

from __future__ import annotations

import logging
from typing import Final

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from prewatt.access.scope import PermissionRefused
from prewatt.reports.place import NoSuchThing
from prewatt.web.api.shapes import Problem
from prewatt.web.errors import bad_request, reference

_log = logging.getLogger("prewatt.web")

#: What every route can answer beside what it was asked for.
REFUSED: Final = {400: Problem, 401: Problem, 403: Problem, 422: Problem}


def teach(api: NinjaAPI) -> None:
    """Let the API answer our refusals, and its library's own, in one shape."""

    def answer(request: HttpRequest, status: int, code: str, message: str) -> HttpResponse:
        return api.create_response(request, Problem(code=code, message=message), status=status)

    @api.exception_handler(AuthenticationError)
    def stranger(request: HttpRequest, _refused: AuthenticationError) -> HttpResponse:
        response = answer(
            request, 401, "api.key", "Send a key of this property as `Authorization: Bearer pwk_…`. "
            "Keys end; an administrator sees which ones hold.",
        )  # fmt: skip
        response["WWW-Authenticate"] = "Bearer"
        return response

    @api.exception_handler(PermissionRefused)
    def forbidden(request: HttpRequest, _refused: PermissionRefused) -> HttpResponse:
        return answer(request, 403, "api.permission", "This key may not do that. Nothing was done.")

    @api.exception_handler(NoSuchThing)
    def unknown(request: HttpRequest, _refused: NoSuchThing) -> HttpResponse:
        return answer(request, 404, "api.unknown", "There is nothing with this id at the property.")

    @api.exception_handler(ValidationError)
    def malformed(request: HttpRequest, refused: ValidationError) -> HttpResponse:
        faults = [
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in refused.errors
        ]
        return answer(request, 422, "api.malformed", "; ".join(faults) + ". Nothing was done.")

    @api.exception_handler(SuspiciousOperation)
    def too_large(request: HttpRequest, refused: SuspiciousOperation) -> HttpResponse:
        # Django's own: a body beyond what it reads.
        return bad_request(request, refused)

    @api.exception_handler(Exception)
    def broken(request: HttpRequest, error: Exception) -> HttpResponse:
        ref = reference()
        _log.error(
            "broke at %s %s, reference %s", request.method, request.path, ref, exc_info=error
        )
        return answer(
            request, 500, "api.broken", f"This is our fault, reference {ref}. A recharge that is sent "
            "again with the same key is taken once.",
        )  # fmt: skip

    @api.exception_handler(HttpError)
    def refused(request: HttpRequest, refusal: HttpError) -> HttpResponse:
        # The library's own: a body that is no JSON.
        return answer(request, 422, "api.malformed", f"{refusal.message}. Nothing was done.")
