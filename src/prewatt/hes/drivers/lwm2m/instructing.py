"""Signed instructions into a meter's container of application data, and its signed answers out of it, unopened.

What is told to a meter is written; of what it answers it tells, sends, or is asked, whichever comes first, and the answer
is handed on once for each time that the instruction is said. Whoever has no answer says the same bytes again, and gets
the one that the meter has stored: nothing here has to be kept over a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from prewatt.hes.drivers.lwm2m import codec, objects
from prewatt.hes.drivers.lwm2m.asking import Asker, Count, DeviceRefuses, Unreachable
from prewatt.hes.drivers.lwm2m.registrations import Registration, Registrations
from prewatt.hes.drivers.lwm2m.values import Item
from prewatt.hes.frames import MalformedFrame

log = logging.getLogger(__name__)

NO_CONTAINER: Final = "no_container"
"""`rejected_frame.reason` of an instruction to a meter that has nowhere to put it."""

HandOn = Callable[[str, bytes], bool]
"""Takes a signed answer of a meter; False where there is no room."""


class Instructor:
    """Says instructions to devices. Lives in the loop of the session.

    `alone` gives the lock under which a device is spoken to; a meter that tells of its answers is waited for
    `answer_s_max` before it is asked.
    """

    def __init__(
        self,
        asker: Asker,
        registrations: Registrations,
        *,
        alone: Callable[[Registration], asyncio.Lock],
        hand_on: HandOn,
        count: Count,
        clock_us: Callable[[], int],
        answer_s_max: float,
    ) -> None:
        self._asker = asker
        self._registrations = registrations
        self._alone = alone
        self._hand_on = hand_on
        self._count = count
        self._clock_us = clock_us
        self._answer_s_max = answer_s_max
        self._awaited: dict[str, asyncio.Future[None]] = {}

    def forget(self, serial: str) -> None:
        """A device has gone; nobody waits for it any more."""
        self._awaited.pop(serial, None)

    def no_container(self, serial: str, payload: bytes) -> None:
        """Count an instruction that its meter has no place for."""
        self._refuse(serial, NO_CONTAINER, "a meter with a key has no object 19", payload)

    async def instruct(self, registration: Registration) -> None:
        """Write what waits for a device, if anything does, and see to its answer."""
        async with self._alone(registration):
            said_before = registration.instructed
            payload = self._registrations.take_instruction(registration)
            if payload is None:
                return
            answered = asyncio.get_running_loop().create_future()
            self._awaited[registration.serial] = answered
            try:
                await self._asker.instruct(registration, payload)
            except DeviceRefuses as refused:
                code = refused.code.dotted
                self._refuse(registration.serial, "refused", f"{code} to an instruction", payload)
                return
            except Unreachable:
                self._hold_again(registration, payload)
                return
        # What is said again has the answer that it had, of which nobody tells once more.
        if registration.tells_answers and payload != said_before:
            await asyncio.wait({answered}, timeout=self._answer_s_max)
        if not answered.done():
            await self.read_answer(registration)

    async def read_answer(self, registration: Registration) -> None:
        """Ask for the last answer, put together from its blocks."""
        try:
            async with self._alone(registration):
                items = await self._asker.read(registration, objects.SIGNED_ANSWER)
        except (DeviceRefuses, Unreachable) as error:
            log.info("meter %s shows no signed answer: %r", registration.serial, error)
        except MalformedFrame as refusal:
            self._refuse(registration.serial, refusal.reason, str(refusal), b"")
        else:
            self.take(registration, items)

    def take(self, registration: Registration, items: Sequence[Item]) -> None:
        """Hand on what a device has told, or shown, of its answers."""
        try:
            answers = codec.signed_answers(items)
        except MalformedFrame as refusal:
            sample = repr(items).encode()
            self._refuse(registration.serial, refusal.reason, str(refusal), sample)
            return
        for each in answers:
            self.hand_on(registration, each)

    def hand_on(self, registration: Registration, payload: bytes) -> bool:
        """Hand one answer on, unless it was; False where there is no room, and it has to come again."""
        if payload != registration.answered:
            if not self._hand_on(registration.serial, payload):
                return False
            registration.answered = payload
            waiting = self._awaited.pop(registration.serial, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        return True

    def _hold_again(self, registration: Registration, payload: bytes) -> None:
        """It did not hear. Asleep earlier than was thought, it gets it when it is back, unless there is a newer one."""
        if registration.sleeps:
            registration.heard_at_us = 0
            registration.instruction = registration.instruction or payload

    def _refuse(self, serial: str, reason: str, explanation: str, sample: bytes) -> None:
        topic = f"lwm2m/{serial}/signed"
        self._count(topic, MalformedFrame(reason, explanation), sample, self._clock_us())
