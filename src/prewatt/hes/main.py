"""The head-end process: sessions, ingest loop and command loop, started, watched and drained together.

Frames go two ways. Readings to the ingest loop, which acknowledges them itself after its commit; hellos, answers and
events to the command loop, which does the same. The end is orderly: nothing more is delivered, both loops finish what
they have, their acknowledgements leave, the connection closes. What was not finished comes again.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.hes import wire
from prewatt.hes.commands import CommandDesk, CommandLoop, Orders
from prewatt.hes.frames import (
    AnswerFrame,
    EventFrame,
    Frame,
    MalformedSample,
    ReadingsBlock,
    ReadingsBundle,
    ReadingsFrame,
    RenewalFrame,
)
from prewatt.hes.instructions import InstructionDesk
from prewatt.hes.links import (
    DRIFT_ALLOWED_US,
    Device,
    Directory,
    relay_instant_us,
    relay_seen_us,
)
from prewatt.hes.renewals import Renew, RenewalLoop, refuse
from prewatt.hes.requests import Clocks, RequestDesk, RequestLoop, Requests, parse_request_name
from prewatt.hes.session import MqttConfig, MqttSession, probe_protocol
from prewatt.hes.sessions import OnMalformed, Opener, Session, Sessions
from prewatt.hes.wire import TlsFiles
from prewatt.runtime.readiness import say_ready
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.25
_PROBE_TIMEOUT_S: Final = 5.0


class Ingest(Protocol):
    """What is needed of the ingest loop."""

    @property
    def failure(self) -> Exception | None:
        """What ended it, if anything did."""

    def start(self) -> None:
        """Begin to gather batches."""

    def submit(self, frame: ReadingsFrame | ReadingsBlock | ReadingsBundle) -> None:
        """Take a frame, a block or a bundle, waiting while the queue is full."""

    def watch(self, serial: str, at_us: int) -> None:
        """A device said something else than readings."""

    def stop(self) -> None:
        """Commit and acknowledge what was taken, then end."""


def mqtt_config(address: str, tls: TlsFiles | None = None) -> MqttConfig:
    """The configuration for `HOST:PORT`, with the newest protocol that the broker there speaks.

    Under TLS that is MQTT 5: nobody but Mosquitto is asked there.
    """
    host, _, port = address.rpartition(":")
    if tls is not None:
        wire.connect(host, int(port), tls, timeout_s=_PROBE_TIMEOUT_S).close()
        return MqttConfig(host=host, port=int(port), tls=tls)
    return MqttConfig(host=host, port=int(port), protocol=probe_protocol(host, int(port)))


def mqtt_opener(config: MqttConfig, *, clock: Callable[[], datetime]) -> Opener:
    """Opens the session of the meters with a broker connection, and of concentrators."""

    def open_session(on_malformed: OnMalformed) -> Session:
        return MqttSession(config, clock_us=lambda: instant_us(clock()), on_malformed=on_malformed)

    return open_session


class HeadEnd:
    """All of the head-end but its process. `make_ingest` gets the sessions to acknowledge through.

    Of the sessions that `openers` open, one for each driver, the first is that of concentrators and of
    every meter which no other knows for its own.
    """

    def __init__(
        self,
        *,
        openers: Sequence[Opener],
        dsn: str,
        clock: Callable[[], datetime],
        orders: Orders,
        raise_alert: Callable[[Device, EventFrame | AnswerFrame, datetime], None],
        make_ingest: Callable[[Sessions], Ingest],
        make_instructions: Callable[[Sessions], InstructionDesk] | None = None,
        renew: Renew | None = None,
        requests: Requests | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        # The desk needs the sessions, so it is made after them: looked up when called.
        def on_malformed(sample: MalformedSample) -> None:
            desk.submit_malformed(sample)

        self._sessions = Sessions([each(on_malformed) for each in openers])
        desk = CommandDesk(
            orders=orders,
            transport=self._sessions,
            directory=Directory(),
            raise_alert=raise_alert,
            instructions=None if make_instructions is None else make_instructions(self._sessions),
        )
        self._commands = CommandLoop(desk, dsn=dsn, clock=clock)
        self._ingest = make_ingest(self._sessions)
        self._renewals = RenewalLoop(self._sessions, renew=renew or refuse, clock=clock)
        self._requests: RequestLoop | None = None
        if requests is not None:
            asking = RequestDesk(
                requests=requests,
                transport=self._sessions,
                directory=Directory(),
                raise_alert=raise_alert,
                clocks=clocks,
            )
            self._requests = RequestLoop(asking, clock=clock)

    @property
    def sessions(self) -> Sessions:
        """The connections to the meters."""
        return self._sessions

    @property
    def failure(self) -> Exception | None:
        """What ended one of the parts; the process must then end, to be started afresh."""
        parts = (self._sessions, self._commands, self._ingest, self._renewals, self._requests)
        failures = (None if each is None else each.failure for each in parts)
        return next((each for each in failures if each is not None), None)

    def start(self) -> None:
        """Begin: consumers first, so that the first frame finds somebody."""
        self._ingest.start()
        self._commands.start()
        self._renewals.start()
        if self._requests is not None:
            self._requests.start()
        self._sessions.start(self._dispatch, self._dispatch_block)

    def stop(self) -> None:
        """Drain, commit, acknowledge, disconnect, in this order."""
        self._sessions.stop_delivery()
        self._ingest.stop()
        self._commands.stop()
        self._renewals.stop()
        if self._requests is not None:
            self._requests.stop()
        self._sessions.stop()

    def _dispatch(self, frame: Frame) -> None:
        if isinstance(frame, ReadingsFrame):
            if frame.token.driver is not Driver.LORAWAN:
                # There a command waits in the network server's queue: another would bring it no sooner.
                self._commands.saw(frame.serial, frame.received_at_us)
            if frame.relay is not None and relay_seen_us(frame) is None:
                self._commands.doubt(frame.serial)
            self._ingest.submit(frame)
        elif isinstance(frame, ReadingsBundle):
            self._saw_bundle(frame)
            self._ingest.submit(frame)
        elif isinstance(frame, RenewalFrame):
            self._renewals.submit(frame)
        else:
            self._ingest.watch(frame.serial, frame.received_at_us)
            if (
                self._requests is not None
                and isinstance(frame, AnswerFrame)
                and parse_request_name(frame.command_id) is not None
            ):
                self._requests.submit(frame)
            else:
                self._commands.submit(frame)

    def _saw_bundle(self, bundle: ReadingsBundle) -> None:
        """Its meters are back that the concentrator has just heard: one with an order gets it at once."""
        received_at_us = bundle.received_at_us
        for serial, heard_at_us in zip(bundle.serials, bundle.heard_at_us.tolist(), strict=True):
            if abs(received_at_us - heard_at_us) <= DRIFT_ALLOWED_US:
                self._commands.saw(serial.decode("ascii", "replace"), received_at_us)

    def _dispatch_block(self, block: ReadingsBlock) -> None:
        for at, (serial, relay, received_at_us, clock_us) in enumerate(block.heard()):
            self._commands.saw(serial, received_at_us)
            if relay is not None:
                made_us = int(block.read_at_us[at]) if clock_us is None else clock_us
                if relay_instant_us(made_us, received_at_us) is None:
                    self._commands.doubt(serial)
        self._ingest.submit(block)


def run(head_end: HeadEnd, *, rehearse: Callable[[], object]) -> int:
    """Run until SIGTERM or SIGINT, or until a part fails; returns the exit status.

    Says that it is ready once it is connected: from then on no message of a meter is lost.
    `rehearse` is called once after that, for what the first order should not have to wait for.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    head_end.start()
    # Usually a matter of milliseconds, and whoever waits for us need not wait for the next watch.
    if head_end.sessions.wait_connected(_WATCH_S):
        say_ready()
    rehearse()
    while head_end.failure is None:
        PULSE.beat("head-end")
        if head_end.sessions.is_connected:
            say_ready()
        if stopping.wait(_WATCH_S):
            break
    else:
        log.error("the head-end ends: %r", head_end.failure)
    head_end.stop()
    return 1 if head_end.failure is not None else 0
