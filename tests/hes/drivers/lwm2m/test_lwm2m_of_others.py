"""An LwM2M client that others wrote, replayed byte by byte: registered, read, observed, ordered and read back."""

import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiocoap
from tests.hes.drivers.lwm2m.test_lwm2m_line import line, order

from prewatt.hes.frames import AnswerFrame, HelloFrame, ReadingsFrame
from waiting import eventually

RECORDED: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[3] / "data" / "lwm2m" / "coap_node.json").read_text()
)


def with_ids(said: str, message_id: int, token: bytes) -> bytes:
    """A recorded datagram under the numbers of this conversation (RFC 7252, 3); all else as it was."""
    datagram = bytes.fromhex(said)
    kind, token_bytes = datagram[0] & 0xF0, datagram[0] & 0x0F
    return (
        bytes([kind | len(token), datagram[1]])
        + message_id.to_bytes(2, "big")
        + token
        + datagram[4 + token_bytes :]
    )


class Replay:
    """Says to a head-end what the client said, each answer to the question that it was given to."""

    def __init__(self, server: str) -> None:
        host, port = server.split(":")
        self.location = ""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, int(port)))
        self._socket.settimeout(0.05)
        self._observed = b""
        self._answers: dict[str, deque[str]] = defaultdict(deque)
        for each in RECORDED["answers"]:
            self._answers[each["to"]].append(each["said"])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._socket.send(bytes.fromhex(RECORDED["register"]))
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join(10)
            self._socket.close()

    def tell(self) -> None:
        """What the client told of itself after its register was observed."""
        for number, each in enumerate(RECORDED["notifications"]):
            self._socket.send(with_ids(each, 64_000 + number, self._observed))

    def leave(self) -> None:
        then = RECORDED["location"].encode()
        said = bytes.fromhex(RECORDED["deregister"])
        self._socket.send(said.replace(then, self.location.encode()))

    def is_observed(self) -> bool:
        return self._observed != b""

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                asked = aiocoap.Message.decode(self._socket.recv(65_536))
            except TimeoutError:
                continue
            if asked.opt.location_path:
                self.location = asked.opt.location_path[1]
            if asked.code.is_request():
                self._answer(asked)

    def _answer(self, asked: aiocoap.Message) -> None:
        is_observe = asked.opt.observe is not None
        question = f"{asked.code} /{'/'.join(asked.opt.uri_path)}{' observe' if is_observe else ''}"
        told = self._answers[question]
        # The last one is what it would say again.
        said = told.popleft() if len(told) > 1 else told[0]
        if is_observe and asked.opt.uri_path[0] == "3331":
            self._observed = asked.token
        self._socket.send(with_ids(said, asked.mid, asked.token))


def test_a_client_of_others_is_met_read_in_its_own_unit_ordered_and_read_back() -> None:
    with line("NB-9") as here:
        replay = Replay(here.server)
        with replay.running():
            hello = here.next(HelloFrame)
            assert (hello.serial, hello.relay, hello.firmware) == ("NB-9", "closed", "1.0")
            # 7.013 kWh as a single-precision float: the unit is told apart from the value.
            assert here.next(ReadingsFrame).value.tolist() == [7_013]
            here.session.send_command("NB-9", order(1, "open"))
            answer = here.next(AnswerFrame)
            assert (answer.result, answer.relay, answer.register_wh) == ("ok", "open", 7_013)
            eventually(replay.is_observed, "an observation")
            replay.tell()
            told = [here.next(ReadingsFrame) for _ in RECORDED["notifications"]]
            assert [each.value.tolist() for each in told] == [[7_017], [7_021]]
            replay.leave()
            eventually(lambda: here.session.registered() == 0, "its leave")
    assert here.samples == []
