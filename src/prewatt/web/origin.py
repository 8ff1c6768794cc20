"""Says to the audit where each request comes from, and gives it the number by which it is found again."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from prewatt.audit.context import Origin, browser_digest, coming_from
from prewatt.audit.refusals import gathering
from prewatt.web.client_address import client_address
from prewatt.web.headers import GetResponse

#: The answer's header with the number of its request, for whoever asks us about it.
HEADER = "X-Request-ID"


class Traced:
    """Numbers every request itself: what a client says its number is would be the client's word."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Pass the request on, in either world; whatever it does comes from there."""
        where = Origin(
            secrets.token_hex(8),
            client_address(request),
            browser_digest(request.headers.get("User-Agent", "")),
        )
        if iscoroutinefunction(self.get_response):
            return self._later(request, where)
        with coming_from(where), gathering():
            response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        return _numbered(response, where)

    async def _later(self, request: HttpRequest, where: Origin) -> HttpResponseBase:
        with coming_from(where), gathering():
            waiting = self.get_response(request)
            assert isinstance(waiting, Awaitable)
            response = await waiting
        return _numbered(response, where)


def _numbered(response: HttpResponseBase, where: Origin) -> HttpResponseBase:
    response[HEADER] = where.request
    return response
