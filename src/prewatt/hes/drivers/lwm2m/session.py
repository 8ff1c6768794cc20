"""The LwM2M server: devices register and send, commands and observations go to them, over CoAP by aiocoap.

One thread runs the event loop that owns the sockets, the registrations and everything else here; another hands
frames to their consumer, which may block. Between them is a queue bounded by readings: when it is full, a Send is
answered 5.03 at once and its meter keeps what it has.

A meter that verifies is instructed through a container of application data (object 19): what is signed is written
into one instance, and its signed answer is told of, read or sent from the other, unopened (decision 40).

What stands for the watermark of MQTT is the answer to a Send: 2.04 once, and only once, everything in it is
committed (invariant 9). A notification has been acknowledged by the library before anybody has read it, so that a
meter must not forget by that. What a Send brought and nobody pays for is answered 5.03: it is kept, and comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import aiocoap
from aiocoap import error as coap_error
from aiocoap import oscore, resource
from aiocoap.numbers.codes import Code
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.transports.oscore import OSCOREAddress

from prewatt.core.drivers import Driver
from prewatt.hes.drivers.lwm2m import codec, links, objects
from prewatt.hes.drivers.lwm2m.asking import (
    RELAY_PATHS,
    Asker,
    DeviceRefuses,
    Unreachable,
    energy_paths,
    keeps_readings,
    relay_paths,
    state_paths,
)
from prewatt.hes.drivers.lwm2m.blocks import OutOfOrder, TooLarge, Uploads
from prewatt.hes.drivers.lwm2m.instructing import Instructor
from prewatt.hes.drivers.lwm2m.keys import NO_CONTEXTS, Contexts, DeviceContext
from prewatt.hes.drivers.lwm2m.library import open_context
from prewatt.hes.drivers.lwm2m.registrations import (
    Registration,
    Registrations,
    UnknownRegistration,
)
from prewatt.hes.drivers.lwm2m.values import Item
from prewatt.hes.frames import (
    AckToken,
    AnswerFrame,
    AnswerResult,
    Command,
    EventFrame,
    Frame,
    HelloFrame,
    MalformedFrame,
    MalformedSample,
    ReadingsFrame,
    SealedFrame,
    Token,
    Watermark,
)
from prewatt.hes.inbox import Inbox
from prewatt.hes.sessions import OnBlock, OnFrame, OnMalformed

log = logging.getLogger(__name__)

_LIBRARY_LOG: Final = "prewatt.hes.lwm2m.aiocoap"
UNKNOWN_METER: Final = "unknown_meter"

_SAMPLE_BYTES: Final = 512
_EXPIRE_EVERY_S: Final = 1.0
_POLL_S: Final = 0.2
_PENDING_PER_METER_MAX: Final = 8
#: After the acknowledgement its watermark follows at once, or never: nobody pays by that meter.
_WATERMARK_WAIT_S: Final = 1.0
_KEEP_IT_S: Final = 600
_LOOK_AGAIN_S: Final = 2.0
#: A clock tells whole seconds, and the way of its answer takes some.
_CLOCK_IS_RIGHT_US: Final = 2_000_000

Roster = Callable[[], tuple[Collection[str], Contexts]]
"""The serials that are reached by this driver, and the keys of devices; called from a thread of its own."""


@dataclass(frozen=True, slots=True)
class Lwm2mConfig:
    """Where to listen, and how patient to be.

    `takes_open` lets devices without a key register: on a private network, or behind a terminator of
    DTLS. One that has a key is never taken without it. `awake_s` is how long a sleeping device
    listens after it was heard.
    """

    host: str
    port: int
    takes_open: bool = False
    awake_s: int = 20
    commit_s_max: float = 60.0
    exchange_s_max: float = 60.0
    queue_readings_max: int = 20_000
    #: So long a meter that tells of its answers is waited for before it is asked.
    answer_s_max: float = 5.0
    roster_every_s: float = 30.0


@dataclass(slots=True, eq=False)
class _Pending:
    """A Send whose meter waits for its answer."""

    frame: ReadingsFrame
    committed: asyncio.Future[bool]


class Lwm2mSession:
    """All LwM2M devices. Thread-safe where `hes.sessions.Session` says so; what begins with `_` is the loop's."""

    def __init__(
        self,
        config: Lwm2mConfig,
        *,
        clock_us: Callable[[], int],
        roster: Roster,
        on_malformed: OnMalformed | None = None,
    ) -> None:
        self.driver: Final = Driver.LWM2M
        self.failure: Exception | None = None
        self._config = config
        self._clock_us = clock_us
        self._roster = roster
        self._on_malformed = on_malformed
        self._inbox: Inbox[Frame] = Inbox(config.queue_readings_max)
        self._listening = threading.Event()
        self._stopping = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="hes-lwm2m", daemon=True)
        self._delivery: threading.Thread | None = None
        self._ends = asyncio.Event()
        # What follows is the loop's own, but that other threads may look a serial up.
        self._meters: frozenset[str] = frozenset()
        self._contexts = NO_CONTEXTS
        self._looked_at = 0.0
        self._registrations = Registrations(
            make_location=lambda: secrets.token_hex(8), awake_s=config.awake_s
        )
        self._uploads = Uploads()
        self._pending: dict[int, _Pending] = {}
        self._last_token = 0
        self._busy: dict[str, asyncio.Lock] = {}
        self._watching: dict[str, set[asyncio.Task[None]]] = {}
        self._sensed: dict[tuple[str, objects.Path], bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._malformed: Counter[str] = Counter()
        self._context: Any = None
        self._asker = Asker(self._count, clock_us=clock_us, exchange_s_max=config.exchange_s_max)
        self._instructor = Instructor(
            self._asker,
            self._registrations,
            alone=self._alone,
            hand_on=self._hand_on_answer,
            count=self._count,
            clock_us=clock_us,
            answer_s_max=config.answer_s_max,
        )

    # --- life, called from other threads ---

    def start(self, on_frame: OnFrame, on_block: OnBlock | None = None) -> None:
        """Listen and deliver in the background."""
        self._delivery = threading.Thread(
            target=self._deliver, args=(on_frame,), name="hes-lwm2m-delivery", daemon=True
        )
        self._delivery.start()
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether it listens."""
        return self._listening.is_set() and self.failure is None

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until it listens; returns whether it does."""
        return self._listening.wait(timeout_s)

    def stop_delivery(self) -> None:
        """Deliver nothing more; Sends that wait for their commit are still answered."""
        self._stopping.set()
        if self._delivery is not None:
            self._delivery.join()
            self._delivery = None

    def stop(self) -> None:
        """Answer what can be answered, and close the sockets."""
        self.stop_delivery()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ends.set)
            self._thread.join()

    # --- what the consumers call, from other threads ---

    def reaches(self, serial: str) -> bool:
        """Whether this meter is reached by LwM2M, as was read last."""
        return serial in self._meters

    def ack(self, tokens: Iterable[Token]) -> None:
        """These are dealt with: committed, as their watermark says next, or refused."""
        ids = [each.message_id for each in tokens if isinstance(each, AckToken)]
        self._in_loop(self._settle_soon, ids)

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """These are committed: answer the Sends that brought them."""
        self._in_loop(self._committed, list(marks))

    def send_command(self, serial: str, command: Command) -> bool:
        """Carry a command out at its meter, or hold it for one that sleeps; False if it is not registered."""
        if self._registrations.of(serial) is None:
            return False
        self._in_loop(self._take_command, serial, command)
        return True

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Write a signed instruction at its meter, or hold it for one that sleeps; False if it is not registered.

        Of what waits only the newest is kept: no earlier one counts beside it.
        """
        registration = self._registrations.of(serial)
        if registration is None:
            return False
        if not registration.links.has(*objects.SIGNED_INSTRUCTION[:2]):
            self._in_loop(self._instructor.no_container, serial, payload)
            return False
        self._in_loop(self._take_instruction, serial, payload)
        return True

    def malformed(self) -> dict[str, int]:
        """How many messages were refused, by reason."""
        return dict(self._malformed)

    def registered(self) -> int:
        """How many devices are registered."""
        return len(self._registrations)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended, and nobody waits any more.
            self._loop.call_soon_threadsafe(call, *arguments)

    # --- the delivery thread ---

    def _deliver(self, on_frame: OnFrame) -> None:
        while not self._stopping.is_set():
            frame = self._inbox.get(timeout_s=_POLL_S)
            if frame is None:
                continue
            try:
                on_frame(frame)
            except Exception as error:
                log.exception("the consumer of frames failed; delivery ends")
                self.failure = error
                return

    # --- the loop ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            log.exception("the LwM2M server ends")
            self.failure = error
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        await self._look_at_roster()
        front = _Front(self._answer)
        self._loop.set_exception_handler(self._unparsed)
        self._context = await open_context(
            _Site(front, _Keys(lambda: self._contexts), self._count_datagram),
            bind=(self._config.host, self._config.port),
            log_name=_LIBRARY_LOG,
        )
        self._asker.context = self._context
        self._listening.set()
        try:
            looked_at = time.monotonic()
            while not self._ends.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ends.wait(), _EXPIRE_EVERY_S)
                for gone in self._registrations.expire(self._clock_us()):
                    log.info("meter %s has not been heard for its lifetime", gone.serial)
                    self._forget(gone)
                if time.monotonic() - looked_at > self._config.roster_every_s:
                    looked_at = time.monotonic()
                    await self._look_at_roster()
        finally:
            await self._close()

    async def _close(self) -> None:
        for pending in self._pending.values():
            if not pending.committed.done():
                pending.committed.set_result(False)
        # Answers leave in the turns of the loop that follow.
        await asyncio.sleep(0.05)
        own = [*self._tasks, *(task for each in self._watching.values() for task in each)]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        if self._context is not None:
            await self._context.shutdown()

    async def _look_at_roster(self) -> None:
        """Read which meters are ours; a database that is away leaves what was known."""
        self._looked_at = time.monotonic()
        try:
            meters, self._contexts = await asyncio.to_thread(self._roster)
        except Exception:
            log.exception("the meters of this driver cannot be read")
            return
        self._meters = frozenset(meters)
        for each in list(self._registrations):
            if each.serial not in self._meters:
                # Reached by another driver from now on, which alone speaks for it.
                self._registrations.remove(each)
                self._forget(each)

    def _forget(self, registration: Registration) -> None:
        for task in self._watching.pop(registration.serial, ()):
            task.cancel()
        self._busy.pop(registration.serial, None)
        self._instructor.forget(registration.serial)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            # Of one device, and ours; the others' go on.
            log.error("work for a device failed", exc_info=fault)

    # --- what devices ask ---

    async def _answer(self, request: aiocoap.Message) -> aiocoap.Message:
        now_us = self._clock_us()
        path = tuple(request.opt.uri_path)
        who = _Sender(request.remote)
        topic = f"lwm2m/{who.serial or 'unknown'}/{'/'.join(path)}"[:_SAMPLE_BYTES]
        try:
            payload = self._assembled(request, who, now_us)
            if payload is None:
                return aiocoap.Message(code=Code.CONTINUE, block1=request.opt.block1)
            return await self._route(request, path, who, payload, now_us)
        except (MalformedFrame, UnknownRegistration, TooLarge, OutOfOrder) as fault:
            refused = _refused_by(fault)
        except _Refused as fault:
            refused = fault
        except Exception as fault:
            # The fault is ours; the meter keeps what it sent, since it is told no 2.04.
            log.exception("answering %s failed", topic)
            internal = MalformedFrame("internal", repr(fault))
            refused = _Refused(Code.INTERNAL_SERVER_ERROR, "internal", internal)
        if refused.reason is not None:
            self._count(topic, refused.reason, request.payload, now_us)
        return _refusal(refused.code, str(refused))

    async def _route(
        self,
        request: aiocoap.Message,
        path: tuple[str, ...],
        who: _Sender,
        payload: bytes,
        now_us: int,
    ) -> aiocoap.Message:
        code = request.code
        if path == (".well-known", "core") and code == Code.GET:
            return aiocoap.Message(
                code=Code.CONTENT, payload=b"</rd>,</dp>", content_format=links.CONTENT_FORMAT
            )
        if path == ("rd",) and code == Code.POST:
            return await self._register(request, who, payload, now_us)
        if len(path) == 2 and path[0] == "rd" and code in (Code.POST, Code.PUT):
            return self._update(request, path[1], who, payload, now_us)
        if len(path) == 2 and path[0] == "rd" and code == Code.DELETE:
            gone = self._own(path[1], who)
            self._registrations.remove(gone)
            self._forget(gone)
            return aiocoap.Message(code=Code.DELETED)
        if path == ("dp",) and code == Code.POST:
            return await self._sent(request, who, payload, now_us)
        is_known = path[:1] in (("rd",), ("dp",)) and len(path) < 3
        raise _Refused(Code.METHOD_NOT_ALLOWED if is_known else Code.NOT_FOUND, "nothing there")

    async def _register(
        self, request: aiocoap.Message, who: _Sender, payload: bytes, now_us: int
    ) -> aiocoap.Message:
        asked = links.parse_query(request.opt.uri_query)
        own = links.parse_links(payload)
        await self._admit(asked.endpoint, who)
        former = self._registrations.of(asked.endpoint)
        if former is not None:
            self._forget(former)
        made = self._registrations.register(
            serial=asked.endpoint,
            sender=who.name,
            address=request.remote,
            links=own,
            version=asked.version,
            sleeps=asked.sleeps,
            lifetime_s=asked.lifetime_s,
            now_us=now_us,
        )
        self._begin(self._meet(made))
        answer = aiocoap.Message(code=Code.CREATED)
        answer.opt.location_path = ("rd", made.location)
        return answer

    async def _admit(self, serial: str, who: _Sender) -> None:
        """Whether the sender may speak for this meter. Raises _Refused."""
        is_stale = time.monotonic() - self._looked_at > _LOOK_AGAIN_S
        if serial not in self._meters and is_stale:
            await self._look_at_roster()
        if serial not in self._meters:
            raise _Refused(
                Code.FORBIDDEN, "no such meter", MalformedFrame(UNKNOWN_METER, serial[:60])
            )
        if who.serial is not None and who.serial != serial:
            raise _Refused(
                Code.FORBIDDEN,
                "another's key",
                MalformedFrame("serial", f"{serial[:60]} by the key of {who.serial}"),
            )
        has_key = serial in self._contexts.by_serial
        if who.serial is None and (has_key or not self._config.takes_open):
            raise _Refused(
                Code.UNAUTHORIZED, "OSCORE", MalformedFrame("unprotected", f"{serial[:60]}")
            )

    def _update(
        self,
        request: aiocoap.Message,
        location: str,
        who: _Sender,
        payload: bytes,
        now_us: int,
    ) -> aiocoap.Message:
        registration = self._own(location, who)
        lifetime_s, sleeps = links.parse_update(request.opt.uri_query)
        is_new = self._registrations.update(
            registration,
            sender=who.name,
            address=request.remote,
            links=links.parse_links(payload) if payload else None,
            lifetime_s=lifetime_s,
            sleeps=sleeps,
            now_us=now_us,
        )
        self._begin(self._meet(registration) if is_new else self._carry_held(registration))
        return aiocoap.Message(code=Code.CHANGED)

    def _own(self, location: str, who: _Sender) -> Registration:
        """The sender's registration. Raises UnknownRegistration for nobody's and for another's alike."""
        registration = self._registrations.at(location)
        key_of = registration.sender if registration.serial in self._contexts.by_serial else None
        if key_of is not None and who.serial != registration.serial:
            raise UnknownRegistration(location)
        return registration

    async def _sent(
        self, request: aiocoap.Message, who: _Sender, payload: bytes, now_us: int
    ) -> aiocoap.Message:
        registration = self._registrations.of_sender(who.name)
        if registration is None:
            raise UnknownRegistration(str(who.name))
        registration.heard_at_us = now_us
        self._begin(self._carry_held(registration))
        items = codec.decode((), request.opt.content_format, payload)
        for answer in codec.signed_answers(items):
            if not self._instructor.hand_on(registration, answer):
                raise _Refused(Code.SERVICE_UNAVAILABLE, "keep it")
        if registration.units is None and not codec.names_units(items):
            async with self._alone(registration):
                await self._asker.ask_units(registration)
            if registration.units is None:
                raise _Refused(Code.SERVICE_UNAVAILABLE, "keep it")
        token = self._token()
        frame = codec.readings(
            registration.serial,
            _in_units(registration, items),
            received_at_us=now_us,
            token=token,
        )
        if frame is None:
            return aiocoap.Message(code=Code.CHANGED)
        if await self._commit(registration.serial, frame):
            return aiocoap.Message(code=Code.CHANGED)
        raise _Refused(Code.SERVICE_UNAVAILABLE, "keep it")

    async def _commit(self, serial: str, frame: ReadingsFrame) -> bool:
        """Hand readings on, and wait until they are committed; False where they are not."""
        waiting = sum(each.frame.serial == serial for each in self._pending.values())
        if waiting >= _PENDING_PER_METER_MAX or not self._hand_on(frame):
            return False
        pending = _Pending(frame, self._loop.create_future())
        self._pending[frame.token.message_id] = pending
        try:
            async with asyncio.timeout(self._config.commit_s_max):
                return await pending.committed
        except TimeoutError:
            return False
        finally:
            del self._pending[frame.token.message_id]

    def _hand_on(self, frame: Frame) -> bool:
        weight = frame.weight if isinstance(frame, ReadingsFrame) else 1
        return not self._stopping.is_set() and self._inbox.put(frame, weight, timeout_s=0)

    def _settle_soon(self, ids: Sequence[int]) -> None:
        for each in ids:
            pending = self._pending.get(each)
            if pending is not None:
                self._loop.call_later(_WATERMARK_WAIT_S, _settle, pending.committed, False)

    def _committed(self, marks: Sequence[Watermark]) -> None:
        own: dict[str, list[Watermark]] = {}
        for mark in marks:
            own.setdefault(mark.serial, []).append(mark)
        for pending in self._pending.values():
            if _covers(own.get(pending.frame.serial, ()), pending.frame):
                _settle(pending.committed, True)

    def _assembled(self, request: aiocoap.Message, who: _Sender, now_us: int) -> bytes | None:
        """The whole payload; None while more blocks are to come. Raises TooLarge, OutOfOrder."""
        block = request.opt.block1
        if block is None:
            return bytes(request.payload)
        return self._uploads.feed(
            (who.name, tuple(request.opt.uri_path), tuple(request.opt.uri_query)),
            start=block.start,
            content=request.payload,
            has_more=block.more,
            now_us=now_us,
        )

    def _token(self) -> AckToken:
        self._last_token += 1
        return AckToken(1, self._last_token, Driver.LWM2M)

    def _unparsed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The library lets a text that is not UTF-8 fall through to the loop, which would write pages about each."""
        if isinstance(context.get("exception"), UnicodeDecodeError):
            self._count_datagram("a text that is not UTF-8")
        else:
            loop.default_exception_handler(context)

    def _count_datagram(self, what: str) -> None:
        self._count("coap", MalformedFrame("datagram", what), b"", self._clock_us())

    def _count(self, topic: str, refusal: MalformedFrame, payload: bytes, now_us: int) -> None:
        self._malformed[refusal.reason] += 1
        if self._on_malformed is not None:
            self._on_malformed(
                MalformedSample(
                    topic, now_us, refusal.reason, str(refusal), payload[:_SAMPLE_BYTES]
                )
            )

    # --- what is asked of devices ---

    async def _meet(self, registration: Registration) -> None:
        """A device has come: who it is and how its relay stands, then what it shall tell by itself."""
        async with self._alone(registration):
            own = registration.links
            await self._asker.ask_units(registration)
            wanted = [objects.FIRMWARE_VERSION, *state_paths(own)]
            items = await self._asker.read_all(registration, wanted)
            firmware = codec.value_at(items, objects.FIRMWARE_VERSION)
            registration.firmware = str(firmware or registration.firmware)
            if items:
                self._hand_on_standing(registration, items, is_back=True)
            self._tell(registration, items)
        self._watch(registration)
        await self._carry_held(registration)

    def _hand_on_standing(
        self, registration: Registration, items: Sequence[Item], *, is_back: bool
    ) -> None:
        now_us = self._clock_us()
        self._hand_on(
            HelloFrame(
                registration.serial,
                now_us,
                self._token(),
                codec.clock_of(items) or now_us,
                codec.relay_of(items),
                registration.firmware,
                is_back=is_back,
            )
        )

    def _tell(self, registration: Registration, items: Sequence[Item]) -> None:
        """Readings that are told now, by a device that keeps none for later."""
        if keeps_readings(registration):
            return
        self._hand_on_readings(registration, items)

    def _hand_on_readings(self, registration: Registration, items: Sequence[Item]) -> None:
        now_us = self._clock_us()
        try:
            frame = codec.readings(
                registration.serial,
                _in_units(registration, items),
                received_at_us=now_us,
                token=self._token(),
            )
        except MalformedFrame as refusal:
            self._count_read(registration, items, refusal)
            return
        if frame is not None:
            self._hand_on(frame)

    def _watch(self, registration: Registration) -> None:
        """Observe the relay, and the energy of a device that has nothing to send."""
        paths = relay_paths(registration.links)[:1]
        if not keeps_readings(registration):
            paths += energy_paths(registration.links)[:1]
        told = (*objects.SENSORS, objects.SIGNED_ANSWER)
        paths += [each for each in told if registration.links.has(each[0], each[1])]
        watching = {self._begin(self._observe(registration, path)) for path in paths}
        for task in self._watching.pop(registration.serial, ()):
            task.cancel()
        self._watching[registration.serial] = watching

    async def _observe(self, registration: Registration, path: objects.Path) -> None:
        """Hear of changes until the registration ends; what cannot be observed is left."""
        request = self._asker.observe(registration, path)
        try:
            first = await request.response
            if path == objects.SIGNED_ANSWER:
                registration.has_to_be_observed = first.code == Code.NOT_FOUND
            if request.observation is None or not first.code.is_successful():
                return
            if path == objects.SIGNED_ANSWER:
                registration.tells_answers = True
            # A cover that is open already is news, too. An answer is, if anything was asked: else it is of before.
            if path in objects.SENSORS or (
                path == objects.SIGNED_ANSWER and registration.instructed is not None
            ):
                await self._told(registration, path, first)
            async for told in request.observation:
                await self._told(registration, path, told)
        except (coap_error.Error, OSError) as error:
            log.info("meter %s is not observed any more: %r", registration.serial, error)
        finally:
            if path == objects.SIGNED_ANSWER:
                registration.tells_answers = False
            if request.observation is not None and not request.observation.cancelled:
                request.observation.cancel()

    async def _told(
        self, registration: Registration, path: objects.Path, told: aiocoap.Message
    ) -> None:
        now_us = registration.heard_at_us = self._clock_us()
        if told.opt.block2 is not None and told.opt.block2.more:
            # What is longer than a block is told of by its first, and read (RFC 7959, section 2.6).
            await self._instructor.read_answer(registration)
            return
        try:
            items = codec.decode(path, told.opt.content_format, told.payload)
        except MalformedFrame as refusal:
            self._count(f"lwm2m/{registration.serial}/notify", refusal, told.payload, now_us)
            return
        if path in objects.SENSORS:
            self._sense(registration.serial, path, bool(codec.value_at(items, path)), now_us)
        elif path == objects.SIGNED_ANSWER:
            self._instructor.take(registration, items)
        elif path in RELAY_PATHS:
            await self._turned(registration, items)
        else:
            self._hand_on_readings(registration, items)

    async def _turned(self, registration: Registration, items: list[Item]) -> None:
        """A relay has turned. It is read once more: while this waited for its turn an order may have turned it.

        Of a device that keeps nothing it is news of the register, too. The others send that, dated by their clock.
        """
        sends = keeps_readings(registration)
        paths = state_paths(registration.links)
        async with self._alone(registration):
            items += await self._asker.read_all(
                registration, [each for each in paths if each not in objects.REGISTERS or not sends]
            )
        if sends:
            self._hand_on_standing(registration, items, is_back=False)
        else:
            self._hand_on_readings(registration, items)

    def _sense(self, serial: str, path: objects.Path, is_on: bool, now_us: int) -> None:
        """Tell of a sensor that has changed; one that is on when it is first heard has come on."""
        if is_on == self._sensed.get((serial, path), False):
            return
        self._sensed[serial, path] = is_on
        code = objects.SENSORS[path][0 if is_on else 1]
        self._hand_on(EventFrame(serial, now_us, self._token(), code, now_us, ""))

    # --- commands ---

    def _take_command(self, serial: str, command: Command) -> None:
        registration = self._registrations.of(serial)
        if registration is None:
            return
        if self._registrations.is_awake(registration, self._clock_us()):
            self._begin(self._carry_out(registration, command))
        else:
            registration.held.append(command)

    async def _carry_held(self, registration: Registration) -> None:
        if registration.instruction is not None:
            # Its answer may take longer than what else there is to do.
            self._begin(self._instruct(registration))
        for command in self._registrations.take_held(registration, self._clock_us()):
            await self._carry_out(registration, command)

    async def _carry_out(self, registration: Registration, command: Command) -> None:
        """Write, where something is to be changed; then read what there is, and answer by that."""
        if self._clock_us() > command.expires_at_us:
            return
        async with self._alone(registration):
            result: AnswerResult = "ok"
            try:
                if command.state is not None:
                    is_on = b"1" if command.state == "closed" else b"0"
                    await self._asker.write(registration, objects.RELAY_ORDER, is_on)
                elif command.op == "clock":
                    result = await self._set_clock(registration, command)
                elif command.op == "history":
                    result = "unsupported"
            except DeviceRefuses as refused:
                result = refused.result
            except Unreachable:
                self._hold_again(registration, command)
                return
            paths = state_paths(registration.links)
            if command.op == "hello":
                paths = [objects.FIRMWARE_VERSION, *paths]
            items = await self._asker.read_all(registration, paths)
        if command.op == "hello" and items:
            registration.firmware = str(
                codec.value_at(items, objects.FIRMWARE_VERSION) or registration.firmware
            )
            self._hand_on_standing(registration, items, is_back=False)
        relay = codec.relay_of(items)
        if relay is None and result == "ok":
            if command.op == "relay":
                # It said yes and then nothing more: the order is tried again, which changes nothing.
                return
            # A device that has none has a clock and a version all the same.
            result = "failed" if command.op == "read" or not items else "ok"
        now_us = self._clock_us()
        self._hand_on(
            AnswerFrame(
                registration.serial,
                now_us,
                self._token(),
                command.command_id,
                result,
                relay,
                self._register_beside(registration, items),
                codec.clock_of(items) or now_us,
            )
        )

    async def _set_clock(self, registration: Registration, command: Command) -> AnswerResult:
        """Put a device's clock right. Raises DeviceRefuses, Unreachable.

        It is moved only if the move still makes it right: an order may have waited while somebody else put it so. It is
        set to the time that it then has to be, so that an order which comes twice moves nothing twice.
        """
        try:
            clock_us = codec.clock_of(await self._asker.read(registration, objects.CLOCK))
        except MalformedFrame as refusal:
            self._count_read(registration, [], refusal)
            return "failed"
        now_us = self._clock_us()
        if clock_us is None or command.move_us is None:
            return "failed"
        if abs(clock_us - now_us) <= _CLOCK_IS_RIGHT_US:
            return "ok"
        moved_us = clock_us + command.move_us + _CLOCK_IS_RIGHT_US
        if not command.issued_at_us <= moved_us <= command.expires_at_us + _CLOCK_IS_RIGHT_US:
            return "failed"
        seconds = str(round(now_us / 1_000_000)).encode()
        await self._asker.write(registration, objects.CLOCK, seconds)
        return "ok"

    # --- signed instructions ---

    def _take_instruction(self, serial: str, payload: bytes) -> None:
        registration = self._registrations.of(serial)
        if registration is None:
            return
        registration.instruction = payload
        if self._registrations.is_awake(registration, self._clock_us()):
            self._begin(self._instruct(registration))

    async def _instruct(self, registration: Registration) -> None:
        await self._instructor.instruct(registration)
        if registration.has_to_be_observed and registration.answered is not None:
            registration.has_to_be_observed = False
            observing = self._begin(self._observe(registration, objects.SIGNED_ANSWER))
            self._watching.setdefault(registration.serial, set()).add(observing)

    def _hand_on_answer(self, serial: str, payload: bytes) -> bool:
        return self._hand_on(SealedFrame(serial, self._clock_us(), self._token(), payload))

    def _register_beside(self, registration: Registration, items: Sequence[Item]) -> int:
        """The register in Wh as an answer tells it; 0 where it is not told or cannot be read.

        An order is answered by its relay, and what is wrong with a register must not hide that.
        """
        try:
            return codec.register_of(_in_units(registration, items)) or 0
        except MalformedFrame as refusal:
            self._count_read(registration, items, refusal)
            return 0

    def _count_read(
        self, registration: Registration, items: Sequence[Item], refusal: MalformedFrame
    ) -> None:
        topic = f"lwm2m/{registration.serial}/read"
        self._count(topic, refusal, repr(items).encode(), self._clock_us())

    def _hold_again(self, registration: Registration, command: Command) -> None:
        """It did not hear: it sleeps earlier than was thought, and gets it when it is back."""
        if registration.sleeps:
            registration.heard_at_us = 0
            registration.held.append(command)

    def _alone(self, registration: Registration) -> asyncio.Lock:
        """One exchange at a time for each device: more is more than RFC 7252 lets us (NSTART)."""
        return self._busy.setdefault(registration.serial, asyncio.Lock())


class _Front(resource.Resource):  # type: ignore[misc]  # aiocoap has no types
    """Hands every request on whole: no assembly of blocks by the library, which knows no bound."""

    def __init__(self, answer: Callable[[aiocoap.Message], Coroutine[Any, Any, Any]]) -> None:
        super().__init__()
        self._answer = answer

    async def needs_blockwise_assembly(self, request: aiocoap.Message) -> bool:
        return False

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        answer: aiocoap.Message = await self._answer(request)
        if request.opt.block1 is not None and answer.opt.block1 is None:
            answer.opt.block1 = request.opt.block1
        return answer


class _Site(OscoreSiteWrapper):  # type: ignore[misc]  # aiocoap has no types
    """The library's guard, in front of which is refused what it would stumble over: anybody can send that."""

    def __init__(self, front: _Front, keys: _Keys, refused: Callable[[str], None]) -> None:
        super().__init__(front, keys)
        self._refused = refused

    async def render_to_pipe(self, pipe: Any) -> None:
        """Refuse an OSCORE option that ends early or means nothing."""
        try:
            oscore.verify_start(pipe.request)
        except oscore.NotAProtectedMessage:
            pass
        except (oscore.ProtectionInvalid, IndexError):
            self._refused("an OSCORE option that cannot be read")
            raise coap_error.BadOption from None
        await super().render_to_pipe(pipe)


class _Keys:
    """The contexts of the moment, as the library asks for them."""

    def __init__(self, contexts: Callable[[], Contexts]) -> None:
        self._contexts = contexts

    def find_oscore(self, unprotected: Any) -> DeviceContext:
        return self._contexts().find_oscore(unprotected)

    def find_edhoc_by_id_cred_peer(self, id_cred_peer: bytes) -> NoReturn:
        raise KeyError("keys are agreed when a device is made, not over the air")

    def find_all_used_contextless_oscore_kid(self) -> set[bytes]:
        return set(self._contexts().by_kid)


class _Sender:
    """Who has sent a message: the device whose key protects it, or else an address."""

    def __init__(self, remote: Any) -> None:
        self.serial: str | None = None
        self.name: Hashable = ("address", remote.hostinfo)
        if isinstance(remote, OSCOREAddress):
            self.serial = remote.security_context.serial
            self.name = ("key", self.serial)


class _Refused(Exception):
    """A request that is not granted: the answer's code and text, and what it is counted as, if it is."""

    def __init__(self, code: Code, text: str, reason: MalformedFrame | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason


def _refused_by(fault: Exception) -> _Refused:
    """The answer to a request that cannot be read, or comes from where nobody is known."""
    if isinstance(fault, MalformedFrame):
        return _Refused(Code.BAD_REQUEST, fault.reason, fault)
    if isinstance(fault, TooLarge):
        oversize = MalformedFrame("oversize", str(fault))
        return _Refused(Code.REQUEST_ENTITY_TOO_LARGE, "too large", oversize)
    if isinstance(fault, OutOfOrder):
        return _Refused(Code.REQUEST_ENTITY_INCOMPLETE, "begin again")
    return _Refused(Code.NOT_FOUND, "register")


def _in_units(registration: Registration, items: Sequence[Item]) -> Sequence[Item]:
    """What a device told, with the units of its sensors, which a message's own come after. Raises MalformedFrame."""
    if registration.units is None and not codec.names_units(items):
        raise MalformedFrame("unit", "it has not said in what its sensors count")
    return [*(registration.units or ()), *items]


def _covers(marks: Iterable[Watermark], frame: ReadingsFrame) -> bool:
    """Whether every reading of a frame is committed by these marks."""
    own = list(marks)
    return bool(own) and all(
        any(mark.register_code == code and mark.from_us <= at_us <= mark.read_at_us for mark in own)
        for code, at_us in zip(frame.register_code.tolist(), frame.read_at_us.tolist(), strict=True)
    )


def _settle(future: asyncio.Future[bool], is_committed: bool) -> None:
    if not future.done():
        future.set_result(is_committed)


def _refusal(code: Code, text: str) -> aiocoap.Message:
    answer = aiocoap.Message(code=code, payload=text.encode())
    if code == Code.SERVICE_UNAVAILABLE:
        answer.opt.max_age = _KEEP_IT_S
    return answer
