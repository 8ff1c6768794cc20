"""What every answer says to the browser: nothing from elsewhere, nothing inline, no framing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

POLICY = (
    "default-src 'none'; object-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: A page on which a code is scanned may ask for the camera; no other may.
_SCANNING = "camera=(self), geolocation=(), microphone=(), payment=()"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "X-Frame-Options": "DENY",
    # No page of another origin embeds a picture, a script or an answer of ours.
    "Cross-Origin-Resource-Policy": "same-origin",
}

Answer = TypeVar("Answer", bound=HttpResponseBase)
GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class SecurityHeaders:
    """Adds the policy to every answer; pages with figures of people are never kept by a cache."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Pass the request on and seal its answer, in either world."""
        if iscoroutinefunction(self.get_response):
            return self._later(request)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        return _sealed(response)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        waiting = self.get_response(request)
        assert isinstance(waiting, Awaitable)
        return _sealed(await waiting)


def may_scan(response: Answer) -> Answer:
    """Let this one page ask for the camera."""
    response["Permissions-Policy"] = _SCANNING
    return response


def _sealed(response: HttpResponseBase) -> HttpResponseBase:
    scans = response.get("Permissions-Policy") == _SCANNING
    for name, value in _HEADERS.items():
        response[name] = value
    if scans:
        may_scan(response)
    if "Cache-Control" not in response:
        response["Cache-Control"] = "no-store"
    return response
