"""Whose pages may ask: requests that a foreign page makes of a browser are refused, and those without TLS sent off.

A browser says itself where a request began (``Sec-Fetch-Site``; Fetch Metadata), which no page can write. What
began elsewhere may only be a visit: a link that opens a page of ours in a window of its own. Whoever says
nothing of it is asked for the ``Origin`` of what changes something. The token of each form stands behind that.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase

from prewatt.web import errors
from prewatt.web.headers import GetResponse

_SAFE: Final = ("GET", "HEAD")
#: Another host of the same domain is as foreign as any: nothing is shared with it.
_FOREIGN: Final = ("cross-site", "same-site")
#: Asked for on this machine, by what watches over the process.
_PROBE: Final = "/healthz"
_API: Final = "/api/"


class Boundary:
    """Refuses what is not asked by a page of ours, a person's visit or a program, over TLS where there is TLS."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer what is refused, and pass on the rest, in either world."""
        refused = _without_tls(request) or _from_elsewhere(request)
        if iscoroutinefunction(self.get_response):
            return self._later(request, refused)
        return refused or self.get_response(request)

    async def _later(self, request: HttpRequest, refused: HttpResponse | None) -> HttpResponseBase:
        if refused is not None:
            return refused
        waiting = self.get_response(request)
        assert isinstance(waiting, Awaitable)
        return await waiting


def _without_tls(request: HttpRequest) -> HttpResponse | None:
    """A page is shown where it is safe; a program is told, for it would go on sending its key in the open."""
    if not settings.TLS or request.is_secure() or request.path == _PROBE:
        return None
    if request.method in _SAFE and not request.path.startswith(_API):
        return HttpResponsePermanentRedirect(
            f"https://{request.get_host()}{request.get_full_path()}"
        )
    return HttpResponse("over https only\n", status=403, content_type="text/plain; charset=utf-8")


def _from_elsewhere(request: HttpRequest) -> HttpResponse | None:
    said = request.headers.get
    if said("Sec-Fetch-Site", "") in _FOREIGN:
        visits = said("Sec-Fetch-Mode") == "navigate" and said("Sec-Fetch-Dest") == "document"
        return None if visits and request.method in _SAFE else errors.csrf_failed(request)
    origin = None if request.method in _SAFE else said("Origin")
    # "null" is what a sandboxed page is called; no page of ours is one.
    if origin is not None and urlsplit(origin).netloc != request.get_host():
        return errors.csrf_failed(request)
    return None
