"""Real SMTP servers on loopback whose answers a test chooses."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Answers:
    """What the server says at each step; None is the usual welcome. Keeps what it accepted."""

    mail: str | None = None
    rcpt: str | None = None
    data: str | None = None
    hangs: bool = False
    accepted: list[Envelope] = field(default_factory=list)
    tls: list[bool] = field(default_factory=list)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds the hook by this name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """MAIL FROM."""
        envelope.mail_from = address
        return self.mail or "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd finds the hook by this name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """RCPT TO."""
        if self.rcpt:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd finds the hook by this name
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        """The end of DATA: here a message is taken or refused."""
        if self.hangs:
            await asyncio.sleep(3)
        if self.data:
            return self.data
        self.accepted.append(envelope)
        self.tls.append(session.ssl is not None)
        return "250 taken"


def only_ada(
    server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    """One known user with one known password."""
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ada", b"right")
    return AuthResult(success=good, handled=good)


@contextmanager
def serving(
    answers: Answers, *, implicit_tls: ssl.SSLContext | None = None, **options: Any
) -> Iterator[int]:
    """A server on a free port of 127.0.0.1; yields the port."""
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(
            lambda: SMTP(answers, hostname="mail.test", loop=loop, **options),
            host="127.0.0.1",
            port=0,
            ssl=implicit_tls,
        )
        started.put((server.sockets[0].getsockname()[1], loop, ended))
        await ended.wait()
        server.close()
        # Clients that hung up are noticed in the loop's next turns.
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    port, loop, ended = started.get(timeout=10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
