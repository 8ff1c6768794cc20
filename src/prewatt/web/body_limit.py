"""How much of a request is read: Django keeps a whole body before it looks at it, so the limit stands before Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

#: The largest form is a price plan (`DATA_UPLOAD_MAX_MEMORY_SIZE`), with what its encoding adds.
FORM_MAX: Final = 512 * 1024
#: Where files are taken, and how much with what their encoding adds (`console.imports.UPLOAD_MAX` is 8 MiB).
UPLOADS: Final[Mapping[str, int]] = {"/property/import": 9 * 1024 * 1024}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]


def limited(app: App) -> App:
    """The application, with an answer of 413 to whoever sends more; of a longer body no more is read."""

    async def serve(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        left = UPLOADS.get(scope["path"], FORM_MAX)
        if _announced(scope) > left:
            await _refuse(send)
            return
        is_over = has_begun = False

        async def receive_some() -> Message:
            nonlocal left, is_over
            message = await receive()
            left -= len(message.get("body", b""))
            if left >= 0:
                return message
            # To the application the sender has gone away, so it gives up what it has read.
            is_over = True
            return {"type": "http.disconnect"}

        async def send_some(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        await app(scope, receive_some, send_some)
        if is_over and not has_begun:
            await _refuse(send)

    return serve


def _announced(scope: Any) -> int:
    """The length that the request says it has; 0 where it says none, or nothing that is one."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and len(value) <= 20:
            return int(value)
    return 0


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"too large\n"})
