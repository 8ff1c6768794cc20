"""Files that are sent row by row as the database gives them, so that their size needs no memory."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextvars import copy_context
from itertools import islice
from typing import Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import translation

from prewatt.web.console.sheet_writer import SheetWriter

#: So many rows travel together.
_ROWS: Final = 500


def csv_file(
    request: HttpRequest, name: str, rows: Iterable[Sequence[str]]
) -> StreamingHttpResponse:
    """The rows as a file for a spreadsheet; they are asked for while the file is on its way."""
    parts = _parts(iter(rows), translation.get_language() or "en")
    body = _one_by_one(parts) if isinstance(request, ASGIRequest) else parts
    response = StreamingHttpResponse(body, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _parts(rows: Iterator[Sequence[str]], language: str) -> Generator[bytes]:
    # Spreadsheet programs take UTF-8 for granted only after this mark.
    part = "\ufeff"
    while part:
        yield part.encode()
        file = io.StringIO()
        with translation.override(language):
            SheetWriter(file).writerows(islice(rows, _ROWS))
        part = file.getvalue()


async def _one_by_one(parts: Generator[bytes]) -> AsyncIterator[bytes]:
    """Each part in the request's own thread, where its connection and its cursor are.

    And in one context, to which the scope belongs that is open from the first part to the last.
    """
    context = copy_context()

    def step() -> bytes:
        return context.run(next, parts, b"")

    try:
        while part := await sync_to_async(step)():
            yield part
    finally:
        # Whoever stops listening ends the transaction, too.
        await sync_to_async(context.run)(parts.close)
