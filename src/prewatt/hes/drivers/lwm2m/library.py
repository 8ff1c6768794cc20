"""aiocoap around its two faults that devices run into (0.4.17), for the head-end and for simulated devices.

A datagram to a device that is gone is answered by ICMP, and Linux hands that error to whoever sends by the same
socket next: to another device. The library takes it for that one's, gives up what was asked of it, and its datagram has
not left. Where it was being said again (RFC 7252, 4.2), the library has just taken its exchange off its list, so that
the error clears half of what it knows of the device, and the next acknowledgement breaks on the other half
("backlogs/active_exchange relation violated"). Here such a datagram is sent once more, and an error that stays is told
after the library has finished what it was doing.

An error of a request that nobody waits for any more is logged by an argument that no logger takes, so that a TypeError
takes its place (`aiocoap.pipe`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any, Final

import aiocoap

#: What an earlier datagram of the socket may have met on its way.
_OF_ANOTHER: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
#: Each try takes one error off the socket; more than so many at once are left to the retransmission.
_TRIES: Final = 4


async def open_context(site: Any, *, bind: tuple[str, int], log_name: str) -> Any:
    """The library's context that answers at an address and asks from there, by OSCORE or without. Raises OSError."""
    library_log(log_name)
    context = await aiocoap.Context.create_server_context(
        site, bind=bind, transports=["oscore", "udp6"], loggername=log_name
    )
    for requests in context.request_interfaces:
        manager = getattr(requests, "token_interface", None)
        if manager is not None:
            CarefulSender(manager)
    return context


class CarefulSender:
    """Sends for a message manager of the library, and tells it of errors of its own datagrams alone, later."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._interface = manager.message_interface
        self._loop: asyncio.AbstractEventLoop = manager.loop
        self._is_sending = False
        self._faults: list[OSError] = []
        # A receive that takes up an error says of nobody; the error queue, which names the address, says it too.
        self._interface.error_received = self._note
        self._interface.send = self.send

    def send(self, message: Any) -> None:
        """Send a datagram; an error that another one left on the socket does not keep it. Once closed, send none."""
        if self._interface._shutting_down is not None:
            return
        remote = message.remote
        beside = (
            []
            if remote.pktinfo is None
            else [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, remote.pktinfo)]
        )
        datagram = message.encode()
        for _ in range(_TRIES):
            fault = self._attempt(datagram, beside, remote.sockaddr)
            if fault is None:
                return
            if fault.errno not in _OF_ANOTHER:
                break
        self._loop.call_soon(self._manager.dispatch_error, fault, remote)

    def _attempt(
        self, datagram: bytes, beside: list[tuple[int, int, bytes]], address: object
    ) -> OSError | None:
        self._faults.clear()
        self._is_sending = True
        try:
            self._interface.transport.sendmsg(datagram, beside, 0, address)
        finally:
            self._is_sending = False
        return self._faults[-1] if self._faults else None

    def _note(self, fault: OSError) -> None:
        if self._is_sending:
            self._faults.append(fault)


class _LibraryLog(logging.Logger):
    """A logger that takes the library's own name for `exc_info`, too."""

    def error(self, msg: object, *args: object, **more: Any) -> None:
        """As `logging.Logger.error`."""
        if "exception" in more:
            more["exc_info"] = more.pop("exception")
        super().error(msg, *args, **more)


def library_log(name: str) -> logging.Logger:
    """The logger of a context. It says errors alone: of each datagram that is no CoAP there would be a line."""
    before = logging.getLoggerClass()
    logging.setLoggerClass(_LibraryLog)
    try:
        made = logging.getLogger(name)
    finally:
        logging.setLoggerClass(before)
    made.setLevel(logging.ERROR)
    return made
