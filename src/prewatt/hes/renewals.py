"""Devices' next certificates, over the connection that the present one has opened; one thread, which may take its time.

What a device asks is kept for it by the broker until it is answered or refused. What is refused is counted, with a
sample; an answer that is lost is given again when the device asks again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from django.db import connection

from prewatt.devices.operations import DeviceRefused
from prewatt.hes.failures import AWAY
from prewatt.hes.frames import MalformedSample, RenewalFrame, Token
from prewatt.hes.inbox import Inbox
from prewatt.hes.rejected import reject
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

_WAITING_MAX: Final = 1_000
_RETRY_S: Final = 1.0

Renew = Callable[[RenewalFrame, datetime], bytes]
"""The certificate and its issuer's (PEM) for what a device asked. Raises DeviceRefused."""


def refuse(_frame: RenewalFrame, _now: datetime) -> bytes:
    """Renew for a head-end that has no issuers."""
    raise DeviceRefused("no_issuer")


class Transport(Protocol):
    """What is needed of the sessions."""

    def ack(self, tokens: Sequence[Token]) -> None:
        """Acknowledge to the broker."""

    def send_certificate(self, serial: str, chain: bytes) -> bool:
        """Send; False when there is no way to the device now."""


class RenewalLoop:
    """Answers one device after the other. Use ``start``, ``submit`` from elsewhere, ``stop``."""

    def __init__(
        self, transport: Transport, *, renew: Renew, clock: Callable[[], datetime]
    ) -> None:
        self.failure: Exception | None = None
        self._transport = transport
        self._renew = renew
        self._clock = clock
        self._inbox: Inbox[RenewalFrame] = Inbox(_WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hes-renewals", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, frame: RenewalFrame) -> None:
        """Take what a device asks; where too many do, it is left to the broker, which gives it again."""
        if not self._inbox.put(frame, 1, timeout_s=0.0):
            log.warning("too many devices ask for a certificate; %s has to ask again", frame.serial)

    def stop(self) -> None:
        """Answer the one that is looked at, then end; the others come again."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                PULSE.beat("renewals")
                frame = self._inbox.get(timeout_s=0.25)
                if frame is not None:
                    self._answer(frame)
        except Exception as error:
            log.exception("the loop of renewals ends")
            self.failure = error
        finally:
            connection.close()

    def _answer(self, frame: RenewalFrame) -> None:
        while not self._stopping.is_set():
            try:
                self._take(frame)
            except AWAY:
                log.warning("the database is away; no certificate is renewed", exc_info=True)
                connection.close()
                self._stopping.wait(_RETRY_S)
            else:
                return

    def _take(self, frame: RenewalFrame) -> None:
        try:
            chain = self._renew(frame, self._clock())
        except DeviceRefused as refused:
            reject(
                [
                    MalformedSample(
                        topic=f"pw/{frame.serial}/up/renew",
                        received_at_us=frame.received_at_us,
                        reason=f"renewal_{refused.reason}",
                        explanation=refused.reason,
                        payload_head=frame.request[:512],
                    )
                ]
            )
        else:
            self._transport.send_certificate(frame.serial, chain)
        self._transport.ack([frame.token])
