"""Our own static files, held in memory: few, small, compressed once, cached for ever by digest.

No second server and no collecting step: the same bytes are served in a test, in the demo and behind
a proxy. An address without the right digest is served as well, but must be asked for again.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase

ROOT: Final = Path(__file__).resolve().parent / "static" / "prewatt"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, the same compressed, and the first 12 digits of its SHA-256."""

    body: bytes
    packed: bytes
    digest: str
    content_type: str


@cache
def load() -> dict[str, Asset]:
    """Every static file by its path below the folder; read once per process."""
    found = {}
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:12]
            packed = gzip.compress(body, mtime=0)
            found[path.relative_to(ROOT).as_posix()] = Asset(
                body, packed, digest, _TYPES[path.suffix]
            )
    return found


def url(name: str) -> str:
    """The cacheable address of a file; a missing one is a programming error."""
    return f"/static/{name}?v={load()[name].digest}"


def serve(request: HttpRequest, name: str) -> HttpResponseBase:
    """Answer with one file, compressed when the browser takes it."""
    asset = load().get(name)
    if asset is None:
        raise Http404(name)
    etag = f'"{asset.digest}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified()
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    response = HttpResponse(asset.packed if packed else asset.body, content_type=asset.content_type)
    if packed:
        response["Content-Encoding"] = "gzip"
    response["Vary"] = "Accept-Encoding"
    response["ETag"] = etag
    response["Cache-Control"] = _FOR_EVER if request.GET.get("v") == asset.digest else "no-cache"
    return response
