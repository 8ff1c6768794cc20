"""How long answers take, by pattern of the address: `/accounts/<int:account_id>` is one, not a million."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from prewatt.telemetry.metrics import HTTP_SECONDS
from prewatt.web.headers import GetResponse


class Measured:
    """Times every request up to its answer; a stream counts until it begins."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Pass the request on and time it, in either world."""
        began = time.perf_counter()
        if iscoroutinefunction(self.get_response):
            return self._later(request, began)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        return _timed(request, response, began)

    async def _later(self, request: HttpRequest, began: float) -> HttpResponseBase:
        waiting = self.get_response(request)
        assert isinstance(waiting, Awaitable)
        return _timed(request, await waiting, began)


def _timed(request: HttpRequest, response: HttpResponseBase, began: float) -> HttpResponseBase:
    match = request.resolver_match
    route = "none" if match is None else match.route
    HTTP_SECONDS.labels(route, str(response.status_code)).observe(time.perf_counter() - began)
    return response
