"""A simulated meter on NB-IoT: the machine of `meter.py` behind CoAP and LwM2M, for the head-end and for other tools.

It registers, keeps its registration up, sends what it has kept, and answers reads, writes and observations of its
objects to whoever asks: `coap-client coap://HOST:PORT/3331/0/5700` reads its register. As a sleeper it opens
its socket for as long as it is awake and another, at another port, the next time, as a device in power saving
mode behind a carrier's gateway does. The faults are those of the machine; `outage` keeps its socket shut.

A meter with a key of its own has a container of application data (object 19): what is written into its instance 1 is an
instruction, what it signed last stands in its instance 0. Nobody turns its relay or moves its clock unsigned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiocoap
from aiocoap import error as coap_error
from aiocoap import resource
from aiocoap.numbers.codes import Code
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.transports.oscore import OSCOREAddress

from prewatt.hes.drivers.lwm2m import codec, links, objects, senml, tlv
from prewatt.hes.drivers.lwm2m.keys import Contexts, DeviceContext, DeviceKey
from prewatt.hes.drivers.lwm2m.library import open_context
from prewatt.hes.drivers.lwm2m.values import Item, Value
from prewatt.hes.drivers.mqtt_senml import codec as mqtt
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    AckToken,
    Command,
    MalformedFrame,
    ReadingsFrame,
    RelayState,
    Watermark,
)
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.meter import FIRMWARE, Outgoing, SimulatedMeter

log = logging.getLogger(__name__)

_LIBRARY_LOG: Final = "prewatt.sim.lwm2m.aiocoap"
FORMATS: Final = (senml.CBOR, senml.JSON, tlv.CONTENT_FORMAT, 0)

_TICK_S: Final = 0.05
_REGISTER_AGAIN_S: Final = 2.0
_ANSWER_S_MAX: Final = 70.0
_YEAR_S: Final = 365 * 86_400
_OBJECTS: Final = (
    (objects.SERVER, 0),
    (objects.DEVICE, 0),
    (objects.CONNECTIVITY, 0),
    (objects.FIRMWARE, 0),
    (objects.ENERGY, 0),
    (objects.POWER_CONTROL, 0),
    (objects.SWITCH, 0),
    *((path[0], path[1]) for path in objects.SENSORS),
)
_CONTAINERS: Final = ((objects.CONTAINER, 0), (objects.CONTAINER, 1))
#: What is in both of them (RFC 9052): the registry gives this text 32 bytes.
_SIGNED: Final = "application/cose"
#: The fault of the machine behind each of its inputs.
_SENSED: Final = {path: words[0] for path, words in objects.SENSORS.items()}


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """How a device behaves on the line.

    With `version` "1.0" it sends nothing by itself and is observed. With `key` it speaks OSCORE and
    lets nobody else write. A sleeper (`sleeps_s`) is awake for `awake_s` in between.
    """

    server: str
    lifetime_s: int = 600
    version: str = "1.1"
    sleeps_s: float | None = None
    awake_s: float = 1.0
    key: DeviceKey | None = None
    #: Where the numbers that it used with that key are written down; None for a device that lives once.
    numbers: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    content_format: int = senml.CBOR
    #: In what it takes what is signed to it, and in what pieces at most; how it brings its answers besides showing
    #: the last of them: it tells whoever observes, it sends (LwM2M 1.1), or neither.
    instructed_in: int = codec.OPAQUE
    block_bytes: int = 1_024
    tells_answers: bool = True
    sends_answers: bool = False
    #: How often it looks whether it has something to do.
    tick_s: float = _TICK_S


class LwM2mDevice:
    """One device; `run` until `stop`. Everything happens in the loop that `run` is in, faults too."""

    def __init__(
        self,
        meter: SimulatedMeter,
        config: DeviceConfig,
        *,
        now_us: Callable[[], int],
        over: Callable[[Any], None] | None = None,
    ) -> None:
        """`over` is called with each CoAP context that it opens: a radio may be laid under it."""
        self._over = over
        self.meter = meter
        self.config = config
        self.location: tuple[str, ...] | None = None
        self.refusals: list[str] = []
        """The codes by which the head-end refused something, in order."""
        self.sent = 0
        self.port = 0
        """Where it listens now; 0 while it sleeps."""
        self.shown: list[tuple[int, int]] = []
        """What somebody has read of it, of its own accord: instants and register, where `keeps_shown`."""
        self.keeps_shown = False
        self.signed = b""
        """The last answer that it signed."""
        self._now_us = now_us
        self._outbox: list[Outgoing] = []
        self._stopping = asyncio.Event()
        # Without a file of numbers a context lives once: two with one key would use the same numbers twice.
        self._security = (
            None
            if config.key is None
            else DeviceContext(config.key, config.numbers, is_device=True)
        )
        self._context: Any = None
        self._front: _Front | None = None
        self._waiting: asyncio.Future[Any] | None = None

    @property
    def observers(self) -> int:
        """How many of its resources are observed now."""
        return 0 if self._front is None else len(self._front._observations)

    def stop(self) -> None:
        """End `run`, with a de-registration if there is somebody to tell; an answer is not waited for."""
        self._stopping.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> None:
        """Live: awake all the time, or again and again."""
        while not self._stopping.is_set():
            if not self.meter.faults["outage"]:
                await self._wake()
                log.info("%s answers at port %d", self.meter.config.serial, self.port)
                try:
                    await self._be_awake()
                finally:
                    await self._sleep()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._stopping.wait(), self.config.sleeps_s or self.config.tick_s
                )

    async def _wake(self) -> None:
        self._front = _Front(self)
        self.port = self.config.port or _free_port(self.config.host)
        site: Any = self._front
        if self._security is not None:
            site = OscoreSiteWrapper(site, _Keys(self._security))
        self._context = await open_context(
            site, bind=(self.config.host, self.port), log_name=_LIBRARY_LOG
        )
        if self._over is not None:
            self._over(self._context)
        if self._security is not None:
            self._context.client_credentials[f"coap://{self.config.server}/*"] = self._security

    async def _sleep(self) -> None:
        context, self._context, self.port = self._context, None, 0
        self.meter.disconnected()
        await context.shutdown()

    async def _be_awake(self) -> None:
        """Keep registered and send; whoever asks is answered also where no head-end is."""
        until = self._loop_time() + self.config.awake_s
        is_registered, register_at = False, 0.0
        messages: list[Outgoing] = []
        while not self._stopping.is_set() and not self.meter.faults["outage"]:
            if self._loop_time() >= register_at:
                was_registered, is_registered = is_registered, await self._register()
                register_at = self._loop_time() + (
                    self.config.lifetime_s / 2 if is_registered else _REGISTER_AGAIN_S
                )
                if is_registered and not was_registered:
                    messages = self.meter.connected(self._now_us())
            if messages:
                await self._send(messages)
                until = max(until, self._loop_time() + self.config.awake_s)
            if self.config.sleeps_s is not None and self._loop_time() > until:
                return
            await asyncio.sleep(self.config.tick_s)
            messages = [*self._outbox, *self.meter.tick(self._now_us())]
            self._outbox.clear()
            assert self._front is not None, "it is awake"
            self._front.look()
        if self._stopping.is_set() and self.location is not None and self.config.sleeps_s is None:
            await self._ask(Code.DELETE, self.location)

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _register(self) -> bool:
        """Update where there is a registration that the head-end still knows, else register."""
        query = [f"lt={self.config.lifetime_s}"]
        if self.location is not None:
            answer = await self._ask(Code.POST, self.location, query=query)
            if answer is None or answer.code == Code.CHANGED:
                return answer is not None
            self.location = None
        sleeps = self.config.sleeps_s is not None
        is_old = self.config.version == "1.0"
        query += [f"ep={self.meter.config.serial}", f"lwm2m={self.config.version}"]
        query += ["b=UQ" if sleeps and is_old else "b=U", *(["Q"] if sleeps and not is_old else [])]
        answer = await self._ask(
            Code.POST,
            ("rd",),
            query=query,
            payload=links.format_links(self.held(), FORMATS),
            content_format=links.CONTENT_FORMAT,
        )
        if answer is None or answer.code != Code.CREATED:
            return False
        self.location = tuple(answer.opt.location_path)
        return True

    async def _send(self, messages: list[Outgoing]) -> None:
        """Send the readings among what the machine says; the rest is asked for, not told, in LwM2M."""
        for channel, payload in messages:
            if channel is Uplink.READINGS and self.config.version != "1.0":
                await self._send_readings(payload)
            elif channel is Uplink.SEALED and self.config.sends_answers:
                await self._send_items([Item((*objects.SIGNED_ANSWER, 0), payload)])

    async def _send_readings(self, payload: bytes) -> None:
        frame = mqtt.decode_readings(
            self.meter.config.serial,
            payload,
            received_at_us=self._now_us(),
            token=AckToken(0, 0),
        )
        items = [
            Item(objects.ENERGY_DRAWN, value, at_us)
            for at_us, value in zip(frame.read_at_us.tolist(), frame.value.tolist(), strict=True)
        ]
        items.append(self.item(objects.RELAY_CONTACT))
        items.append(self.item(objects.CLOCK))
        if await self._send_items(items):
            self._let_go(frame)

    async def _send_items(self, items: list[Item]) -> bool:
        """Send (LwM2M 1.1); returns whether all of it has arrived for good."""
        self.sent += 1
        answer = await self._ask(
            Code.POST,
            ("dp",),
            payload=senml.encode(self.config.content_format, items),
            content_format=self.config.content_format,
        )
        if answer is not None and answer.code == Code.NOT_FOUND:
            self.location = None
            await self._register()
        return answer is not None and bool(answer.code == Code.CHANGED)

    def _let_go(self, frame: ReadingsFrame) -> None:
        """2.04 says what a watermark says: all of this Send is committed."""
        mark = Watermark(
            frame.serial,
            ACTIVE_IMPORT,
            int(frame.read_at_us[-1]),
            int(frame.read_at_us[0]),
            int(frame.value[-1]),
        )
        self.meter.receive_watermarks(mqtt.encode_watermarks([mark]), self._now_us())

    async def _ask(
        self,
        code: Code,
        path: tuple[str, ...],
        *,
        query: list[str] | None = None,
        payload: bytes = b"",
        content_format: int | None = None,
    ) -> Any:
        """The head-end's answer; None if there was none."""
        message = aiocoap.Message(code=code, payload=payload, uri=f"coap://{self.config.server}/")
        message.opt.uri_path = path
        message.opt.uri_query = query or []
        message.opt.content_format = content_format
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                self._waiting = self._context.request(message).response
                answer = await self._waiting
        except (TimeoutError, asyncio.CancelledError, coap_error.Error, OSError) as fault:
            log.info("%s has no answer: %r", self.meter.config.serial, fault)
            return None
        if not answer.code.is_successful():
            self.refusals.append(answer.code.dotted)
        return answer

    # --- its objects ---

    @property
    def verifies(self) -> bool:
        """Whether it does nothing of weight that nobody signed."""
        return self.meter.config.private_key is not None

    def held(self) -> tuple[tuple[int, int], ...]:
        """The objects that it has, with their instances."""
        return (*_OBJECTS, *_CONTAINERS) if self.verifies else _OBJECTS

    def item(self, path: objects.Path) -> Item:
        """What stands at a path now. Raises LookupError."""
        return Item(path, self._values()[path])

    def below(self, path: objects.Path) -> list[Item]:
        """Everything at and below a path of at least an object."""
        return [Item(at, value) for at, value in self._values().items() if at[: len(path)] == path]

    def _values(self) -> dict[objects.Path, Value]:
        now_us = self._now_us()
        is_on = self.meter.relay == "closed"
        register_wh = self.meter.register_wh(now_us)
        if self.keeps_shown:
            self.shown.append((self.meter.clock_us(now_us), register_wh))
        return {
            (objects.SERVER, 0, 0): 1,
            (objects.SERVER, 0, 1): self.config.lifetime_s,
            (objects.SERVER, 0, 7): "U",
            objects.MANUFACTURER: "Prewatt",
            objects.MODEL: "simulated",
            objects.DEVICE_SERIAL: self.meter.config.serial,
            objects.FIRMWARE_VERSION: FIRMWARE,
            objects.CLOCK: self.meter.clock_us(now_us) // 1_000_000,
            (objects.CONNECTIVITY, 0, 0): 7,
            objects.SIGNAL: -97,
            (objects.FIRMWARE, 0, 7): FIRMWARE,
            objects.ENERGY_DRAWN: register_wh,
            (objects.ENERGY, 0, 5701): "Wh",
            objects.RELAY_ORDER: is_on,
            objects.RELAY_CONTACT: is_on,
            **{path: bool(self.meter.faults[fault]) for path, fault in _SENSED.items()},
            **(self._container() if self.verifies else {}),
        }

    def _container(self) -> dict[objects.Path, Value]:
        own: dict[objects.Path, Value] = (
            {(*objects.SIGNED_ANSWER, 0): self.signed} if self.signed else {}
        )
        for (object_id, instance), what in zip(
            _CONTAINERS, ("signed answers", "signed instructions"), strict=True
        ):
            own[object_id, instance, 3], own[object_id, instance, 4] = what, _SIGNED
        return own

    def instruct(self, payload: bytes) -> None:
        """Do as is signed, or not; the answer stands there then, and goes the ways that it has."""
        outgoing = self.meter.receive_instruction(payload, self._now_us())
        for channel, answer in outgoing:
            if channel is Uplink.SEALED:
                self.signed = answer
        self._outbox += outgoing

    def set_clock(self, seconds: int) -> None:
        """Put its clock so, as a write says."""
        ahead_us = seconds * 1_000_000 - self.meter.clock_us(self._now_us())
        self.meter.faults["clock_drift"] += round(ahead_us / 1_000_000)

    def set_relay(self, state: RelayState) -> None:
        """Do as a write says. A stuck relay says yes and does nothing."""
        now_us = self._now_us()
        command = Command(
            f"{self.sent}.{now_us}.relay", "relay", state, now_us, now_us + _YEAR_S * 1_000_000
        )
        # The answer is that of CoAP; the reading of a relay that has turned is sent.
        self._outbox += self.meter.receive_command(mqtt.encode_command(command), now_us)


class _Front(resource.ObservableResource):  # type: ignore[misc]  # aiocoap has no types
    """All of a device's tree: reads of any level in any format, writes of the relay, observations."""

    def __init__(self, device: LwM2mDevice) -> None:
        super().__init__()
        self._device = device
        self._told = self._to_tell()
        self._observed: WeakKeyDictionary[Any, objects.Path] = WeakKeyDictionary()

    async def add_observation(self, request: aiocoap.Message, observation: Any) -> None:
        await super().add_observation(request, observation)
        self._observed[observation] = _path(request)

    def _to_tell(self) -> dict[int, object]:
        """By its object, what whoever observes is told of."""
        meter = self._device.meter
        sensed = tuple(meter.faults[fault] for fault in _SENSED.values())
        signed = self._device.signed if self._device.config.tells_answers else b""
        return {
            **dict.fromkeys((objects.SWITCH, objects.POWER_CONTROL, objects.ENERGY), meter.relay),
            objects.INPUT: sensed,
            objects.CONTAINER: signed,
        }

    def look(self) -> None:
        """Tell whoever observes when the relay has turned, a sensor changed, or an answer was signed."""
        before, self._told = self._told, self._to_tell()
        for observation in list(self._observations):
            own = self._observed[observation][0]
            if before.get(own) != self._told.get(own):
                observation.trigger()

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        if request.opt.uri_path == (".well-known", "core"):
            payload = links.format_links(self._device.held(), FORMATS)
            return aiocoap.Message(payload=payload, content_format=links.CONTENT_FORMAT)
        items = self._device.below(_path(request))
        if not items:
            raise _Refusal(Code.NOT_FOUND)
        return _content(_path(request), items, request.opt.accept)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        if self._device.config.key is not None and not isinstance(request.remote, OSCOREAddress):
            raise _Refusal(Code.UNAUTHORIZED)
        path = _path(request)
        if path == objects.SIGNED_INSTRUCTION and self._device.verifies:
            return self._instructed(request)
        if path not in (objects.RELAY_ORDER, objects.CLOCK):
            is_there = bool(self._device.below(path))
            raise _Refusal(Code.METHOD_NOT_ALLOWED if is_there else Code.NOT_FOUND)
        if self._device.verifies:
            # Nobody turns it unsigned, whoever it is.
            raise _Refusal(Code.METHOD_NOT_ALLOWED)
        if path == objects.CLOCK and request.payload.isdigit():
            self._device.set_clock(int(request.payload))
        elif path == objects.RELAY_ORDER and request.payload in (b"0", b"1"):
            self._device.set_relay("closed" if request.payload == b"1" else "open")
        else:
            raise _Refusal(Code.BAD_REQUEST)
        self.look()
        return aiocoap.Message(code=Code.CHANGED)

    def _instructed(self, request: aiocoap.Message) -> aiocoap.Message:
        config, form = self._device.config, request.opt.content_format
        if request.opt.block1 is None and len(request.payload) > config.block_bytes:
            raise _Refusal(Code.REQUEST_ENTITY_TOO_LARGE)
        if form != config.instructed_in:
            raise _Refusal(Code.UNSUPPORTED_CONTENT_FORMAT)
        payload = bytes(request.payload)
        if form != codec.OPAQUE:
            try:
                (item,) = codec.decode(objects.SIGNED_INSTRUCTION, form, payload)
            except (MalformedFrame, ValueError):
                raise _Refusal(Code.BAD_REQUEST) from None
            assert isinstance(item.value, bytes), "its kind is opaque"
            payload = item.value
        self._device.instruct(payload)
        self.look()
        return aiocoap.Message(code=Code.CHANGED)


class _Refusal(coap_error.RenderableError):  # type: ignore[misc]  # aiocoap has no types
    """An answer that is no."""

    def __init__(self, code: Code) -> None:
        super().__init__()
        self._code = code

    def to_message(self) -> aiocoap.Message:
        """The answer."""
        return aiocoap.Message(code=self._code)


class _Keys:
    """The one context of a device, as the library asks for it."""

    def __init__(self, context: DeviceContext) -> None:
        self._contexts = Contexts({context.serial: context}, {bytes(context.recipient_id): context})

    def find_oscore(self, unprotected: Any) -> DeviceContext:
        return self._contexts.find_oscore(unprotected)


def _path(request: aiocoap.Message) -> objects.Path:
    try:
        return tuple(int(each) for each in request.opt.uri_path if each)
    except ValueError:
        raise _Refusal(Code.NOT_FOUND) from None


def _content(path: objects.Path, items: list[Item], accept: int | None) -> aiocoap.Message:
    """What was read in the format that was asked for; text for one value where none was."""
    form = accept
    if form is None and len(path) >= 3:
        form = codec.OPAQUE if isinstance(items[0].value, bytes) else codec.TEXT
    elif form is None:
        form = tlv.CONTENT_FORMAT
    if form in (senml.CBOR, senml.JSON):
        return aiocoap.Message(payload=senml.encode(form, items), content_format=form)
    if form == tlv.CONTENT_FORMAT:
        pairs = [(each.path, _bytes(each)) for each in items]
        return aiocoap.Message(payload=tlv.encode(path, pairs), content_format=form)
    value = items[0].value
    if form == codec.OPAQUE and isinstance(value, bytes):
        return aiocoap.Message(payload=value, content_format=form)
    if form == codec.TEXT and len(path) >= 3 and not isinstance(value, bytes):
        text = str(int(value) if isinstance(value, bool) else value)
        return aiocoap.Message(payload=text.encode(), content_format=0)
    raise _Refusal(Code.NOT_ACCEPTABLE)


def _bytes(item: Item) -> bytes:
    """A value as TLV has it, numbers in eight bytes."""
    value = item.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return bytes([value])
    if objects.kind_of(item.path) is objects.Kind.FLOAT:
        return struct.pack(">d", value)
    if isinstance(value, int):
        return value.to_bytes(8, "big", signed=True)
    return str(value).encode()


def read_key(file: Path) -> DeviceKey:
    """The key in a file as `prewatt meter key --format json` prints it. Raises OSError, ValueError, KeyError."""
    fields = json.loads(file.read_text())
    return DeviceKey(
        serial=fields["serial"],
        device_id=bytes.fromhex(fields["sender_id"]),
        server_id=bytes.fromhex(fields["recipient_id"]),
        secret=bytes.fromhex(fields["master_secret"]),
        salt=bytes.fromhex(fields["master_salt"]),
    )


def read_signing(file: Path) -> dict[str, Any]:
    """A meter's own key and whom it trusts, for its configuration. Raises OSError, ValueError, KeyError."""
    fields = json.loads(file.read_text())
    return {
        "private_key": ES256PrivateKey.from_scalar(bytes.fromhex(fields["secret"])),
        "trusts": {
            bytes.fromhex(key_id): bytes.fromhex(point)
            for key_id, point in fields["trusts"].items()
        },
    }


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
