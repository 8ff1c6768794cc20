"""What is asked of a device: reading, writing, observing, one exchange at a time, with a bound on each answer.

Retransmission and duplicates are the library's (RFC 7252, 4.2); the blocks of a long answer are put together
here, because the library would take as many as a device sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiocoap
from aiocoap import error as coap_error
from aiocoap.numbers.codes import Code

from prewatt.hes.drivers.lwm2m import codec, links, objects, tlv
from prewatt.hes.drivers.lwm2m.registrations import Registration
from prewatt.hes.drivers.lwm2m.values import MAX_PAYLOAD_BYTES, Item
from prewatt.hes.frames import AnswerResult, MalformedFrame

log = logging.getLogger(__name__)

Count = Callable[[str, MalformedFrame, bytes, int], None]
"""Told of each answer that cannot be read: topic, why, the beginning of it, and when (µs)."""


class Unreachable(Exception):
    """A device did not answer."""


class DeviceRefuses(Exception):
    """A device said no."""

    def __init__(self, code: Code, block_exponent: int | None = None) -> None:
        super().__init__(str(code))
        self.code = code
        #: What size of block it would take; None where it says nothing of it.
        self.block_exponent = block_exponent
        self.result: AnswerResult = (
            "unsupported" if code in (Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED) else "failed"
        )


#: 1,024 bytes, the most that a block has.
_BLOCK_EXPONENT_MAX: Final = 6
#: 64 bytes, for a device that takes no more at once and does not say what it takes.
_BLOCK_EXPONENT_SMALL: Final = 2
_OTHER_FORMAT: Final = (Code.UNSUPPORTED_CONTENT_FORMAT, Code.BAD_REQUEST)

RELAY_PATHS: Final = (objects.RELAY_CONTACT, objects.RELAY_ORDER)


def relay_paths(own: links.Links) -> list[objects.Path]:
    return [each for each in RELAY_PATHS if own.has(each[0], each[1])]


def energy_paths(own: links.Links) -> list[objects.Path]:
    paths = (objects.ENERGY_DRAWN, objects.POWER_DRAWN_TOTAL)
    return [each for each in paths if own.has(each[0], each[1])]


def state_paths(own: links.Links) -> list[objects.Path]:
    """What says how a meter stands: its relay first, which must be read back, then register and clock."""
    return [*relay_paths(own)[:1], *energy_paths(own)[:1], objects.CLOCK]


def keeps_readings(registration: Registration) -> bool:
    """Whether a device can send what it kept (LwM2M 1.1): then nothing it tells otherwise is stored."""
    return registration.version != "1.0"


class Asker:
    """Asks devices, through the context that answers them too: a device talks to one address and port.

    `context` is the library's, set once it listens.
    """

    def __init__(self, count: Count, *, clock_us: Callable[[], int], exchange_s_max: float) -> None:
        self.context: Any = None
        self._count = count
        self._clock_us = clock_us
        self._exchange_s_max = exchange_s_max

    async def read_all(
        self, registration: Registration, paths: Sequence[objects.Path]
    ) -> list[Item]:
        """The values that can be read; a device that has gone silent is not asked for the rest."""
        items: list[Item] = []
        for path in paths:
            try:
                items += await self.read(registration, path)
            except DeviceRefuses:
                continue
            except Unreachable:
                break
            except MalformedFrame as refusal:
                self._count_read(registration, path, refusal)
        return items

    async def read(self, registration: Registration, path: objects.Path) -> list[Item]:
        """One resource, put together from its blocks. Raises MalformedFrame and what `_exchange` does."""
        content = bytearray()
        block: tuple[int, bool, int] | None = None
        while True:
            message = self._message(registration, Code.GET, path)
            if block is not None:
                message.opt.block2 = block
            answer = await self._exchange(registration, message)
            part = answer.opt.block2
            if part is not None and part.start != len(content):
                raise MalformedFrame("blocks", f"a block at {part.start}")
            content += answer.payload
            if len(content) > MAX_PAYLOAD_BYTES:
                raise MalformedFrame("oversize", f"more than {MAX_PAYLOAD_BYTES} bytes")
            if part is None or not part.more:
                return codec.decode(path, answer.opt.content_format, bytes(content))
            block = (part.block_number + 1, False, part.size_exponent)

    async def ask_units(self, registration: Registration) -> None:
        """Learn in what the energy sensors count, which their values do not say: kWh taken for Wh is a thousandth.

        A device that names no unit counts Wh, as the registry's example does. Of one that does not answer,
        or not readably, the units stay as they were.
        """
        told: list[Item] = []
        for path in objects.UNITS_OF_ENERGY:
            if not registration.links.has(path[0], path[1]):
                continue
            try:
                told += await self.read(registration, path)
            except DeviceRefuses:
                continue
            except Unreachable:
                return
            except MalformedFrame as refusal:
                self._count_read(registration, path, refusal)
                return
        registration.units = told

    async def write(
        self,
        registration: Registration,
        path: objects.Path,
        content: bytes,
        content_format: int = codec.TEXT,
    ) -> None:
        """Write one resource, in blocks where it is longer than one, or than the device takes (RFC 7959)."""
        at, exponent = 0, _BLOCK_EXPONENT_MAX
        while True:
            end = at + (1 << exponent + 4)
            has_more = end < len(content)
            message = self._message(registration, Code.PUT, path)
            message.payload = content[at:end]
            message.opt.content_format = content_format
            if has_more or at:
                message.opt.block1 = (at >> exponent + 4, has_more, exponent)
            try:
                answer = await self._exchange(registration, message)
            except DeviceRefuses as refused:
                smaller = refused.block_exponent
                if smaller is None:
                    smaller = _BLOCK_EXPONENT_SMALL
                if at or refused.code != Code.REQUEST_ENTITY_TOO_LARGE or smaller >= exponent:
                    raise
                exponent = smaller
                continue
            if not has_more:
                return
            at = end
            if answer.opt.block1 is not None:
                exponent = min(exponent, answer.opt.block1.size_exponent)

    async def instruct(self, registration: Registration, payload: bytes) -> None:
        """Write a signed instruction: as it is, or as TLV has it to a device that takes it so alone.

        Data is a multiple resource, which the standard writes as TLV or SenML; platforms of NB-IoT write its one
        value as it is. Raises Unreachable and DeviceRefuses.
        """
        path = objects.SIGNED_INSTRUCTION
        if not registration.takes_tlv_alone:
            try:
                await self.write(registration, path, payload, codec.OPAQUE)
            except DeviceRefuses as refused:
                if refused.code not in _OTHER_FORMAT:
                    raise
                registration.takes_tlv_alone = True
            else:
                return
        wrapped = tlv.encode(path[:2], [((*path, 0), payload)])
        await self.write(registration, path, wrapped, tlv.CONTENT_FORMAT)

    def observe(self, registration: Registration, path: objects.Path) -> Any:
        """The library's request to observe a resource; its answers are of one block."""
        message = self._message(registration, Code.GET, path)
        message.opt.observe = 0
        return self.context.request(message, handle_blockwise=False)

    def _count_read(
        self, registration: Registration, path: objects.Path, refusal: MalformedFrame
    ) -> None:
        topic = f"lwm2m/{registration.serial}/read"
        self._count(topic, refusal, objects.path_text(path).encode(), self._clock_us())

    async def _exchange(
        self, registration: Registration, message: aiocoap.Message
    ) -> aiocoap.Message:
        """Ask and wait, with the library's retransmissions. Raises Unreachable and DeviceRefuses."""
        try:
            async with asyncio.timeout(self._exchange_s_max):
                answer = await self.context.request(message, handle_blockwise=False).response
        except (TimeoutError, coap_error.Error, OSError) as error:
            log.info("meter %s does not answer: %r", registration.serial, error)
            raise Unreachable(registration.serial) from error
        registration.heard_at_us = self._clock_us()
        if not answer.code.is_successful():
            block = answer.opt.block1
            raise DeviceRefuses(answer.code, None if block is None else block.size_exponent)
        return answer

    def _message(
        self, registration: Registration, code: Code, path: objects.Path
    ) -> aiocoap.Message:
        message = aiocoap.Message(code=code)
        message.remote = registration.address
        root = [each for each in registration.links.root.split("/") if each]
        message.opt.uri_path = (*root, *map(str, path))
        return message
