"""Signed instructions and answers over CoAP: every way that an answer has, sleepers, blocks, and what nobody believes."""

import asyncio
import logging
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import aiocoap
import pytest
from aiocoap import error as coap_error
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from aiocoap.pipe import Pipe
from cryptography.fernet import Fernet
from tests.hes.drivers.lwm2m.test_lwm2m_line import LOOPBACK, MeterKeys, device, line, now_us, order

from prewatt.core.instructions import (
    NOTHING,
    Answer,
    Command,
    Operation,
    Result,
    believed_answer,
    sealed_command,
)
from prewatt.core.vocabulary import RelayState
from prewatt.hes.drivers.lwm2m import codec, objects, senml, tlv
from prewatt.hes.drivers.lwm2m.asking import Asker, Unreachable
from prewatt.hes.drivers.lwm2m.instructing import Instructor
from prewatt.hes.drivers.lwm2m.keys import DeviceKeys
from prewatt.hes.drivers.lwm2m.library import library_log, open_context
from prewatt.hes.drivers.lwm2m.links import Links
from prewatt.hes.drivers.lwm2m.registrations import Registrations
from prewatt.hes.drivers.lwm2m.values import Item
from prewatt.hes.frames import AnswerFrame, HelloFrame, MalformedFrame, SealedFrame
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.meter import MeterSeal, trusting
from waiting import eventually

HEAD_END: Final = ES256PrivateKey.from_scalar(bytes([3] * 32))
SEAL: Final = MeterSeal(HEAD_END)


def keys(number: int) -> MeterKeys:
    own = ES256PrivateKey.from_scalar(bytes([number] * 32))
    return MeterKeys(own, {SEAL.key_id: HEAD_END.point})


def instruction(
    serial: str, sequence: int = 1, relay: RelayState = RelayState.OPEN, previous: bytes = NOTHING
) -> tuple[bytes, bytes]:
    at_us = now_us()
    asked = Command(
        serial, Operation.RELAY, int(relay), sequence, at_us, at_us + 60_000_000, bytes(8), previous
    )
    return sealed_command(asked, by=SEAL)


def answer_of(frame: Any, own: MeterKeys) -> Answer:
    verify = trusting({MeterSeal(own.own).key_id: own.own.point})
    return believed_answer(frame.payload, meter=frame.serial, verify=verify)[0]


@pytest.mark.parametrize(
    ("answer_s_max", "config"),
    [
        (120.0, {}),
        (0.05, {"tells_answers": False, "instructed_in": tlv.CONTENT_FORMAT, "block_bytes": 64}),
        (120.0, {"tells_answers": False, "sends_answers": True, "content_format": senml.JSON}),
        (0.05, {"sleeps_s": 0.3, "awake_s": 0.2, "version": "1.0"}),
    ],
    ids=["told", "read, in blocks of TLV", "sent", "asleep"],
)
def test_an_instruction_goes_out_and_its_signed_answer_comes_back(
    answer_s_max: float, config: dict[str, Any], tmp_path: Path
) -> None:
    """Under OSCORE, by each way that an answer has; said again it is done once, and answered in the same bytes."""
    device_keys, own = DeviceKeys(tmp_path, [Fernet.generate_key().decode()]), keys(7)
    key = device_keys.make("NB-1")
    with (
        line("NB-1", contexts=device_keys.contexts, awake_s=0, answer_s_max=answer_s_max) as here,
        device(here.server, signing=own, key=key, **config) as there,
    ):
        here.next(HelloFrame)
        if "sleeps_s" in config:
            eventually(lambda: there.port == 0, "it sleeps")
            # Overtaken while it slept: it never hears of the first.
            early, _ = instruction("NB-1", relay=RelayState.CLOSED)
            assert here.session.send_instruction("NB-1", early)
        payload, name = instruction("NB-1")
        assert here.session.send_instruction("NB-1", payload)
        told = here.next(SealedFrame)
        said = answer_of(told, own)
        assert (said.result, said.relay, said.command_hash) == (Result.OK, RelayState.OPEN, name)
        assert there.meter.relay == "open" and there.meter.instructed.sequence == 1
        assert here.session.send_instruction("NB-1", payload), "its answer was lost, as it seems"
        assert here.next(SealedFrame).payload == told.payload
        # The answer that was sent may be on its way still when the same one is read.
        eventually(lambda: there.meter.instructed.repeated == 1, "it was told twice")
        assert there.meter.instructed.refused == 0
        after, _ = instruction("NB-1", 2, RelayState.CLOSED, previous=name)
        assert here.session.send_instruction("NB-1", after)
        assert answer_of(here.next(SealedFrame), own).relay is RelayState.CLOSED
        assert there.meter.relay == "closed" and there.meter.instructed.sequence == 2
        assert not any(isinstance(each, SealedFrame) for each in here.frames.queue), "each once"
    assert here.samples == []


def test_a_meter_that_verifies_is_told_nothing_of_weight_unsigned() -> None:
    own = keys(7)
    with line("NB-1", "NB-2") as here, device(here.server, signing=own) as there:
        here.next(HelloFrame)
        for op, command in (("relay", order(1, "open")), ("read", order(2))):
            assert here.session.send_command("NB-1", command)
            answer = here.next(AnswerFrame)
            assert answer.result == ("unsupported" if op == "relay" else "ok")
            assert answer.relay == "closed"
        # Nobody it trusts signed it to this meter: it says so in its next answer, and does nothing.
        foreign, _ = instruction("NB-2")
        assert here.session.send_instruction("NB-1", foreign)
        eventually(lambda: there.meter.instructed.refused == 1, "it refused")
        payload, _ = instruction("NB-1")
        assert here.session.send_instruction("NB-1", payload)
        assert answer_of(here.next(SealedFrame), own).refused == 1
        # What it shows is told as it is, whoever put it there: others judge it.
        there.signed = b"no signature at all"
        assert here.next(SealedFrame).payload == there.signed
        there.signed = bytes(600)
        eventually(lambda: [each.reason for each in here.samples] == ["size"], "counted")
        with device(here.server, "NB-2"):
            eventually(lambda: here.session.registered() == 2, "a meter that cannot verify")
            assert not here.session.send_instruction("NB-2", payload)
            eventually(lambda: here.samples[-1].reason == "no_container", "counted")
        assert not here.session.send_instruction("NB-3", payload), "nobody of that name"


def test_a_clock_is_put_right_once_and_a_version_is_asked_for() -> None:
    with line("NB-1") as here, device(here.server, faults={"clock_drift": 90}) as there:
        assert here.next(HelloFrame).is_back
        at_us = now_us()
        move = {"issued_at_us": at_us, "expires_at_us": at_us + 600_000_000, "move_us": -90_000_000}
        for number, result in enumerate(("ok", "ok")):
            clock = _command(f"f{number}", "clock", **move)
            assert here.session.send_command("NB-1", clock)
            assert here.next(AnswerFrame).result == result
            drift_us = there.meter.clock_us(0)
            assert abs(drift_us) <= 2_000_000, "moved once, however often it is asked"
        there.meter.faults["clock_drift"] = -7_200
        assert here.session.send_command("NB-1", _command("f3", "clock", **move))
        assert here.next(AnswerFrame).result == "failed", "the move would not put it right"
        assert there.meter.faults["clock_drift"] == -7_200
        assert here.session.send_command(
            "NB-1", _command("f4", "hello", **move | {"move_us": None})
        )
        assert here.next(AnswerFrame).result == "ok"
        told = here.next(HelloFrame)
        assert told.firmware == "prewatt-sim 1.0" and not told.is_back


def _command(name: str, op: str, **times: Any) -> Any:
    from prewatt.hes.frames import Command as Order

    return Order(name, op, None, **times)  # type: ignore[arg-type]


# --- without a socket --------------------------------------------------------------------------------


def test_signed_answers_are_found_in_every_format_and_nothing_else_is_one() -> None:
    path, answer = objects.SIGNED_ANSWER, bytes(range(200))
    kept = [Item((*path, 0), answer)]
    for form in (senml.JSON, senml.CBOR):
        assert codec.signed_answers(codec.decode((), form, senml.encode(form, kept))) == [answer]
    packed = tlv.encode(path[:2], [((*path, 0), answer)])
    assert codec.signed_answers(codec.decode(path, tlv.CONTENT_FORMAT, packed)) == [answer]
    for plain in (codec.OPAQUE, None):
        assert codec.signed_answers(codec.decode(path, plain, answer)) == [answer]
    assert codec.signed_answers([Item(path, b""), Item(objects.SIGNED_INSTRUCTION, answer)]) == []
    refused: list[tuple[str, Any]] = [
        ("size", [Item(path, bytes(513))]),
        ("type", [Item(path, "text")]),
        ("too_many", [Item((*path, number), answer) for number in range(9)]),
    ]
    for reason, items in refused:
        with pytest.raises(MalformedFrame, match=reason):
            codec.signed_answers(items)
    with pytest.raises(MalformedFrame, match="format"):
        codec.decode(path, codec.TEXT, b"AAAA")
    for said in ('"AAA="', '"AB"', '"A"', '"é"', "7"):
        with pytest.raises(MalformedFrame, match="vd is not Base64"):
            codec.decode((), senml.JSON, f'[{{"n":"/19/0/0/0","vd":{said}}}]'.encode())


class Told:
    """A context of the library that answers each request as it is told to."""

    def __init__(self, *answers: aiocoap.Message) -> None:
        self._answers = list(answers)
        self.asked: list[aiocoap.Message] = []

    def request(self, message: aiocoap.Message, *, handle_blockwise: bool) -> Any:
        assert not handle_blockwise
        self.asked.append(message)
        response: asyncio.Future[aiocoap.Message] = asyncio.get_running_loop().create_future()
        response.set_result(self._answers.pop(0))
        return SimpleNamespace(response=response)


def answering(code: Code, block1: tuple[int, bool, int] | None = None) -> aiocoap.Message:
    message = aiocoap.Message(code=code)
    message.opt.block1 = block1
    return message


def test_what_is_longer_than_a_block_goes_in_those_that_the_device_takes() -> None:
    registration = Registrations(make_location=lambda: "a", awake_s=0).register(
        serial="NB-1", sender="a", address=None, links=Links(frozenset()), version="1.1",
        sleeps=False, lifetime_s=60, now_us=0,
    )  # fmt: skip
    asker = Asker(lambda *_: None, clock_us=lambda: 0, exchange_s_max=1.0)
    content = bytes(range(200))
    device_says = Told(
        answering(Code.REQUEST_ENTITY_TOO_LARGE, (0, False, 3)),
        answering(Code.CONTINUE, (0, True, 2)),
        answering(Code.CONTINUE, (2, True, 2)),
        answering(Code.CHANGED, (3, False, 2)),
    )
    asker.context = device_says
    asyncio.run(asker.write(registration, objects.SIGNED_INSTRUCTION, content, codec.OPAQUE))
    sent = device_says.asked
    assert sent[0].opt.block1 is None and sent[0].payload == content
    assert b"".join(each.payload for each in sent[1:]) == content
    assert [tuple(each.opt.block1) for each in sent[1:]] == [
        (0, True, 3),
        (2, True, 2),
        (3, False, 2),
    ]


@pytest.mark.parametrize("newer", [None, b"newer"])
def test_what_a_sleeper_did_not_hear_waits_for_it_unless_there_is_newer(
    newer: bytes | None,
) -> None:
    registrations = Registrations(make_location=lambda: "a", awake_s=20)
    own = registrations.register(
        serial="NB-1", sender="a", address=None, links=Links(frozenset()), version="1.1",
        sleeps=True, lifetime_s=60, now_us=0,
    )  # fmt: skip
    said: list[bytes] = []

    class Deaf:
        async def instruct(self, registration: Any, payload: bytes) -> None:
            said.append(payload)
            registration.instruction = newer
            raise Unreachable("NB-1")

    async def say() -> None:
        lock = asyncio.Lock()
        instructor = Instructor(
            cast(Asker, Deaf()), registrations, alone=lambda _: lock, hand_on=lambda *_: True,
            count=lambda *_: None, clock_us=lambda: 0, answer_s_max=0,
        )  # fmt: skip
        own.instruction = b"first"
        await instructor.instruct(own)
        assert own.instruction == (newer or b"first") and own.heard_at_us == 0
        own.instruction = None
        await instructor.instruct(own)

    asyncio.run(say())
    assert said == [b"first"], "nothing waits, nothing is said"
    again = registrations.register(
        serial="NB-1", sender="b", address=None, links=Links(frozenset()), version="1.1",
        sleeps=True, lifetime_s=60, now_us=9,
    )  # fmt: skip
    assert again.instructed == b"first", "registered anew, it is told as before"


@pytest.mark.parametrize("is_careful", [True, False])
def test_an_error_of_another_device_breaks_no_exchange(is_careful: bool) -> None:
    """A datagram met nobody, and the kernel says so to the next one: it is sent all the same, to whom it is for."""

    async def say_again() -> tuple[bytes, str]:
        context = await open_context(
            aiocoap.resource.Site(), bind=(LOOPBACK, 0), log_name="careful"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.bind((LOOPBACK, 0))
            there.settimeout(5)
            manager = context.request_interfaces[-1].token_interface
            wire = manager.message_interface
            if not is_careful:
                del wire.send, wire.error_received
            message = aiocoap.Message(code=Code.GET, _mtype=Type.CON, _mid=7)
            where = aiocoap.Message(
                code=Code.GET, uri=f"coap://{LOOPBACK}:{there.getsockname()[1]}"
            )
            message.remote = await wire.determine_remote(where)
            manager.send_message(message, lambda: None)
            there.recv(99)
            (key,) = manager._active_exchanges
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind((LOOPBACK, 0))
                nobody = f"::ffff:{LOOPBACK}", gone.getsockname()[1]
            wire.transport._RecvmsgSelectorDatagramTransport__sock.sendto(b"", nobody)
            manager._retransmit(message, 2.0, 0)
            try:
                there.setblocking(False)
                heard = there.recv(99)
            except BlockingIOError:
                heard = b""
            said = ""
            acknowledged = aiocoap.Message(code=Code.EMPTY, _mtype=Type.ACK, _mid=key[1])
            acknowledged.remote = message.remote
            try:
                manager.dispatch_message(acknowledged)
            except AssertionError as broken:
                said = str(broken)
            manager._active_exchanges.clear()
            await context.shutdown()
            return heard, said

    heard, said = asyncio.run(say_again())
    if is_careful:
        assert heard and not said
    else:
        # What the library does by itself, in the version that is locked. Once it does not, `library.py` can go.
        assert not heard and "relation violated" in said


def test_an_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for name, is_ours in (("prewatt.test.library", True), ("prewatt.test.plain", False)):
        pipe = Pipe(
            aiocoap.Message(code=Code.GET),
            library_log(name) if is_ours else logging.getLogger(name),
        )
        pipe.on_event(lambda _: False)
        pipe.add_exception(coap_error.NetworkError("first"))
        with nullcontext() if is_ours else pytest.raises(TypeError):
            # What the library does by itself, in the version that is locked.
            pipe.add_exception(coap_error.NetworkError("nobody waits"))
    assert "nobody waits" in caplog.text
