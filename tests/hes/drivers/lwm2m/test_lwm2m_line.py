"""A head-end and LwM2M devices over real sockets: what is registered, sent, committed, ordered and read back."""

import asyncio
import json
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from cryptography.fernet import Fernet
from tests.cases import cases

from prewatt import cli
from prewatt.core.drivers import Driver
from prewatt.fuzz.vectors import vectors_of
from prewatt.hes.drivers.lwm2m import codec, senml
from prewatt.hes.drivers.lwm2m.keys import (
    NO_CONTEXTS,
    Contexts,
    DeviceKey,
    DeviceKeys,
    DeviceKeysRefused,
)
from prewatt.hes.drivers.lwm2m.session import Lwm2mConfig, Lwm2mSession
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    AnswerFrame,
    Command,
    EventFrame,
    Frame,
    HelloFrame,
    MalformedSample,
    ReadingsFrame,
    Watermark,
)
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.loads import load_profile
from prewatt.sim.lwm2m import DeviceConfig, LwM2mDevice, _free_port, read_key
from prewatt.sim.meter import MeterConfig, SimulatedMeter
from waiting import eventually

LOOPBACK = "127.0.0.1"
OWN = ES256PrivateKey.from_scalar(bytes([7] * 32))


def now_us() -> int:
    return time.time_ns() // 1_000


class Line:
    """A session whose frames are kept, and committed as soon as `commits` says so."""

    def __init__(self, session: Lwm2mSession, port: int) -> None:
        self.session = session
        self.server = f"{LOOPBACK}:{port}"
        self.samples: list[MalformedSample] = []
        self.frames: queue.Queue[Frame] = queue.Queue()
        self.passed: list[Frame] = []
        self.commits = threading.Event()
        self.pays = True
        self.committed: list[tuple[int, int]] = []

    def take(self, frame: Frame) -> None:
        self.frames.put(frame)
        if isinstance(frame, ReadingsFrame):
            self.commits.wait(20)
            self.session.ack([frame.token])
            if self.pays:
                at_us, value = frame.read_at_us.tolist(), frame.value.tolist()
                self.committed += zip(at_us, value, strict=True)
                mark = Watermark(frame.serial, ACTIVE_IMPORT, at_us[-1], at_us[0], value[-1])
                self.session.publish_watermarks([mark])

    def next(self, kind: type[Frame]) -> Frame:
        """The next frame of a kind; those of others, in whatever order they come, wait to be asked for."""
        for at, frame in enumerate(self.passed):
            if isinstance(frame, kind):
                return self.passed.pop(at)
        while True:
            frame = self.frames.get(timeout=60)
            if isinstance(frame, kind):
                return frame
            self.passed.append(frame)


@contextmanager
def line(
    *serials: str, contexts: Callable[[], Contexts] = lambda: NO_CONTEXTS, **config: object
) -> Iterator[Line]:
    port = _free_port(LOOPBACK)
    settings = Lwm2mConfig(**({"host": LOOPBACK, "port": port, "takes_open": True} | config))
    made: list[Line] = []
    session = Lwm2mSession(
        settings,
        clock_us=now_us,
        roster=lambda: (serials, contexts()),
        on_malformed=lambda sample: made[0].samples.append(sample),  # noqa: PLW0108 - made later
    )
    made.append(Line(session, port))
    made[0].commits.set()
    session.start(made[0].take)
    assert session.wait_connected(30)
    try:
        yield made[0]
    finally:
        made[0].commits.set()
        session.stop()
    assert session.failure is None


@dataclass(frozen=True)
class MeterKeys:
    """A meter's own key, and the points, by their ids, of whom it trusts."""

    own: ES256PrivateKey
    trusts: dict[bytes, bytes]


@contextmanager
def device(
    server: str,
    serial: str = "NB-1",
    clock_us: Callable[[], int] = now_us,
    register_wh: int = 7_000,
    faults: dict[str, int] | None = None,
    period_us: int = 60_000_000,
    signing: MeterKeys | None = None,
    **config: object,
) -> Iterator[LwM2mDevice]:
    """A device in a loop and a thread of its own; with `signing` it does nothing of weight unsigned."""
    loop = asyncio.new_event_loop()
    meter = SimulatedMeter(
        MeterConfig(
            serial,
            load_profile("H0-A"),
            # Draws nothing: its register is then the same however long a test takes.
            0,
            register_wh,
            clock_us(),
            period_us,
            retry_us=400_000,
            private_key=None if signing is None else signing.own,
            trusts={} if signing is None else signing.trusts,
        )
    )
    meter.faults |= faults or {}
    made = LwM2mDevice(meter, DeviceConfig(server, **config), now_us=clock_us)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_until_complete, args=(made.run(),), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(made.stop)
        thread.join(60)
        assert not thread.is_alive()
        loop.close()


def order(number: int, state: str | None = None) -> Command:
    op = "read" if state is None else "relay"
    return Command(f"{number}.1.{op}", op, state, now_us(), now_us() + 60_000_000)  # type: ignore[arg-type]


@pytest.mark.parametrize("content_format", [senml.CBOR, senml.JSON])
def test_a_meter_forgets_what_is_committed_and_nothing_else(content_format: int) -> None:
    with line("NB-1") as here:
        here.commits.clear()
        with device(here.server, content_format=content_format) as there:
            told = here.next(ReadingsFrame)
            assert told.token.driver is Driver.LWM2M and told.relay == "closed"
            time.sleep(0.3)
            assert there.meter.backlog == 1, "its answer waits for the commit"
            here.commits.set()
            eventually(lambda: there.meter.backlog == 0, "2.04 after the commit")
            assert here.committed[0][1] == 7_000
            hello = here.next(HelloFrame)
            assert hello.relay == "closed" and hello.firmware == "prewatt-sim 1.0"

            assert here.session.send_command("NB-1", order(1, "open"))
            answer = here.next(AnswerFrame)
            assert (answer.command_id, answer.result, answer.relay) == ("1.1.relay", "ok", "open")
            assert here.session.send_command("NB-1", order(1))
            answer = here.next(AnswerFrame)
            assert (answer.command_id, answer.relay) == ("1.1.read", "open")
            assert answer.register_wh == 7_000 and abs(answer.at_us - now_us()) < 60_000_000
            there.meter.faults["stuck_relay"] = 1
            here.session.send_command("NB-1", order(2, "closed"))
            answer = here.next(AnswerFrame)
            assert (answer.result, answer.relay) == ("ok", "open"), (
                "it says yes; its contacts do not"
            )
        eventually(lambda: here.session.registered() == 0, "it took its leave")
        assert not here.session.send_command("NB-1", order(3))


def test_what_nobody_pays_for_is_kept_and_comes_again() -> None:
    with line("NB-1") as here:
        here.pays = False
        with device(here.server) as there:
            here.next(ReadingsFrame)
            eventually(lambda: there.refusals == ["5.03"], "acknowledged, and without a watermark")
            assert there.meter.backlog == 1


def test_what_the_air_loses_or_doubles_is_stored_and_let_go() -> None:
    with line("NB-1") as here:
        faults = {"drop": 50, "duplicate": 1}
        with device(here.server, faults=faults, period_us=200_000) as there:
            eventually(lambda: len({at_us for at_us, _ in here.committed}) >= 4, "all come")
            there.meter.faults["drop"] = 0
            told = {at_us for at_us, _ in here.committed}
            kept = there.meter.unacknowledged
            eventually(lambda: told.isdisjoint(at_us for at_us, _ in kept()), "and are let go")


def test_a_fault_of_ours_tells_no_meter_that_it_may_forget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("not thought of")

    monkeypatch.setattr(codec, "readings", fails)
    with line("NB-1") as here, device(here.server) as there:
        eventually(lambda: "5.00" in there.refusals, "no 2.04")
        assert there.meter.backlog >= 1
        assert "internal" in {each.reason for each in here.samples}


def test_a_long_backlog_comes_in_blocks() -> None:
    with line("NB-1") as here:
        with device(here.server) as there:
            here.next(ReadingsFrame)
            eventually(lambda: there.meter.backlog == 0, "the first reading")
            there.meter.faults["outage"] = 1
            eventually(lambda: there.port == 0, "it is away")
            began = now_us() - 7_200_000_000
            for minute in range(120):
                there.meter._record(began + minute * 60_000_000)
            there.meter.faults["outage"] = 0
            eventually(lambda: there.meter.backlog == 0, "all of it, in one Send")
        largest = max((f for f in here.frames.queue if isinstance(f, ReadingsFrame)), key=len)
        assert len(largest) >= 120 and len(here.committed) >= 121


def test_a_sleeper_gets_its_order_when_it_wakes_and_from_where_it_then_is() -> None:
    with line("NB-1", awake_s=0) as here, device(here.server, sleeps_s=0.5, awake_s=0.2) as there:
        here.next(HelloFrame)
        first = there.port
        eventually(lambda: there.port == 0, "it sleeps")
        assert here.session.send_command("NB-1", order(1, "open"))
        answer = here.next(AnswerFrame)
        assert (answer.command_id, answer.relay) == ("1.1.relay", "open")
        assert there.port not in (0, first), "another address, the same registration"
        assert there.meter.relay == "open"
        assert here.session.registered() == 1


def test_a_device_of_1_0_is_observed_since_it_sends_nothing() -> None:
    with line("NB-1") as here, device(here.server, version="1.0") as there:
        first = here.next(ReadingsFrame)
        assert (
            first.value.tolist() == [7_000]
            and abs(int(first.read_at_us[0]) - now_us()) < 60_000_000
        )
        eventually(lambda: there.observers == 7, "relay, register and five sensors")
        # By hand at the meter: nobody ordered it, and it is told all the same.
        there.set_relay("open")
        told = here.next(ReadingsFrame)
        while told.relay is None:
            told = here.next(ReadingsFrame)
        assert told.relay == "open"
        assert there.sent == 0
        for state, said in ((1, "cover_open"), (0, "cover_closed")):
            there.meter.faults["cover_open"] = state
            heard = here.next(EventFrame)
            assert isinstance(heard, EventFrame) and heard.code == said


def test_only_a_meter_of_this_driver_with_its_own_key_is_heard(tmp_path: Path) -> None:
    seals = [Fernet.generate_key().decode()]
    keys = DeviceKeys(tmp_path, seals)
    key, other = keys.make("NB-1"), keys.make("NB-2")
    with line("NB-1", "NB-2", contexts=keys.contexts) as here:
        stolen = DeviceKey("NB-1", other.device_id, other.server_id, other.secret, other.salt)
        for config in ({"key": None}, {"key": stolen}):
            with device(here.server, "NB-1", **config) as there:
                eventually(lambda there=there: bool(there.refusals), "no such device")
                assert there.refusals[0] in ("4.01", "4.03")
        with device(here.server, "PW-1") as there:
            eventually(lambda: there.refusals[:1] == ["4.03"], "a meter of MQTT")
        assert {each.reason for each in here.samples} == {"unprotected", "serial", "unknown_meter"}
        assert here.session.registered() == 0

        with device(here.server, "NB-1", key=key) as there:
            here.next(ReadingsFrame)
            eventually(lambda: there.meter.backlog == 0, "sent and committed under its key")
            assert here.session.send_command("NB-1", order(1, "open"))
            assert here.next(AnswerFrame).relay == "open"
            written = sum(int(file.read_text()) for file in tmp_path.glob("NB-1.*.numbers"))
            assert written >= 256, "numbers are written down before they are used"
    again = DeviceKeys(tmp_path, seals)
    assert again.contexts().by_serial["NB-1"].sender_sequence_number == written, "and never again"


def test_bytes_that_are_no_coap_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """Noise and turned bits of a registration, and after them a meter is heard as before."""
    random = Random(7)
    # POST /rd?ep=NB-2&lt=60, confirmable.
    good = b"\x41\x02\x00\x01t\xb2rd\x47ep=NB-2\x05lt=60\xff</3/0>,</3331/0>"
    with line("NB-1", "NB-2") as here:
        host, port = here.server.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(cases(600)):
                hostile = bytearray(
                    random.randbytes(random.randrange(1, 80)) if number % 3 else good
                )
                if number:
                    hostile[random.randrange(len(hostile))] ^= 1 << random.randrange(8)
                sender.sendto(hostile, (host, int(port)))
            for what, found in vectors_of("oscore"):
                if what.startswith("found"):
                    sender.sendto(found, (host, int(port)))
        with device(here.server) as there:
            here.next(ReadingsFrame)
            told = [each.explanation for each in here.samples if each.reason == "datagram"]
            assert len({*told}) == 2, (
                "what the library stumbles over is counted, and logged nowhere"
            )
            assert "Traceback" not in caplog.text and "exception" not in caplog.text
            eventually(lambda: there.meter.backlog == 0, "heard as before")
            assert here.session.registered() >= 2, "the one good message among them"


def test_an_installer_reads_a_meter_and_makes_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with line("NB-1") as here, device(here.server) as there:
        here.next(HelloFrame)
        address = f"coap://{LOOPBACK}:{there.port}"
        assert cli.main(["meter", "probe", address, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["serial"], found["relay"], found["problems"]) == ("NB-1", "closed", [])
        assert found["registers"] == [{"register": "1.8.0", "value": 7_000, "unit": "Wh"}]
        assert abs(found["clock_drift_s"]) < 60 and found["firmware"] == "prewatt-sim 1.0"
        assert {"path": "/4/0/2", "name": "Radio Signal Strength", "value": -97, "unit": "dBm"} in (
            found["resources"]
        )
        assert cli.main(["meter", "probe", address]) == 0
        assert "1.8.0       7000 Wh" in capsys.readouterr().out
        assert cli.main(["meter", "probe", address, "--format", "row"]) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head == "building,unit,serial,opening_wh,driver,has_relay"
        assert row == f",,{found['serial']},7000,lwm2m,yes"
        assert not found["takes_signed"]
    nowhere = f"{LOOPBACK}:{_free_port(LOOPBACK)}"
    with device(nowhere, signing=MeterKeys(OWN, {})) as alone:
        eventually(lambda: alone.port > 0, "it answers also where no head-end is")
        assert cli.main(["meter", "probe", f"coap://{LOOPBACK}:{alone.port}"]) == 0
        told = capsys.readouterr().out
        assert "signed      instructions, by object 19" in told
        assert "/19/1/4        Data Format: application/cose" in told
    for nobody in (f"coap://{LOOPBACK}:{_free_port(LOOPBACK)}", "http://a", "mqtt://a:1/b/c"):
        assert cli.main(["meter", "probe", nobody, "--wait", "0.3"]) == 2
        assert capsys.readouterr().err.startswith("prewatt: ")

    monkeypatch.setenv("PREWATT_LWM2M_KEYS", str(tmp_path))
    monkeypatch.delenv("PREWATT_LWM2M_SEALS", raising=False)
    assert cli.main(["meter", "key", "NB-1"]) == 2, "never in the open"
    seal = Fernet.generate_key().decode()
    monkeypatch.setenv("PREWATT_LWM2M_SEALS", seal)
    capsys.readouterr()
    assert cli.main(["meter", "key", "NB-1", "--format", "json"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.json").write_text(printed)
    context = DeviceKeys(tmp_path, [seal]).contexts().by_serial["NB-1"]
    assert read_key(tmp_path / "printed.json").device_id == context.recipient_id
    assert cli.main(["meter", "key", "NB-1"]) == 2, "a device would be shut out"
    assert cli.main(["meter", "key", "NB-1", "--again"]) == 0
    (file,) = tmp_path.glob("*.key")
    assert json.loads(printed)["master_secret"].encode() not in file.read_bytes()
    with pytest.raises(DeviceKeysRefused, match="another seal"):
        DeviceKeys(tmp_path, [Fernet.generate_key().decode()]).contexts()
    own = DeviceKeys(tmp_path, [seal])
    assert own.contexts().by_serial["NB-1"] is own.contexts().by_serial["NB-1"]


needs_libcoap = pytest.mark.skipif(
    shutil.which("coap-client-notls") is None,
    reason="NOT TESTED: libcoap is not installed here (apt-get install libcoap3-bin)",
)


def libcoap(uri: str, *options: str) -> bytes:
    """What libcoap's client says: what it received, and each message as it saw it."""
    done = subprocess.run(
        ["coap-client-notls", "-B", "30", "-v", "6", *options, uri],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


@needs_libcoap
def test_libcoap_reads_and_switches_the_simulated_meter() -> None:
    with line("NB-1") as here, device(here.server) as there:
        here.next(ReadingsFrame)
        meter = f"coap://{LOOPBACK}:{there.port}"
        assert b"7000" in libcoap(f"{meter}/3331/0/5700")
        assert b"</3331/0>" in libcoap(f"{meter}/.well-known/core")
        content = libcoap(f"{meter}/3331/0/5700", "-A", "110", "-v", "1")
        assert codec.decode((3331, 0, 5700), senml.JSON, content.strip())[0].value == 7_000
        assert b"2.04" in libcoap(f"{meter}/3312/0/5850", "-m", "put", "-e", "0", "-t", "0")
        assert there.meter.relay == "open"
        assert b"4.05" in libcoap(f"{meter}/3331/0/5700", "-m", "put", "-e", "0", "-t", "0")
        assert b"4.04" in libcoap(f"{meter}/9999/0/1")
        # What a meter signed, and what it is told, are bytes in a container: not this meter's, which has no key.
        assert b"4.04" in libcoap(f"{meter}/19/0/0")
    with device(here.server, signing=MeterKeys(OWN, {})) as there:
        eventually(lambda: there.port > 0, "it answers")
        meter = f"coap://{LOOPBACK}:{there.port}"
        assert b"application/cose" in libcoap(f"{meter}/19/0/4")
        there.signed = b"a signed answer"
        assert b"a signed answer" in libcoap(f"{meter}/19/0/0", "-v", "1")
        assert b"2.04" in libcoap(f"{meter}/19/1/0", "-m", "put", "-e", "forged", "-t", "42")
        assert there.meter.instructed.refused == 1, "and it says so in its next answer"
        assert b"4.15" in libcoap(f"{meter}/19/1/0", "-m", "put", "-e", "forged", "-t", "0")
        assert b"4.05" in libcoap(f"{meter}/3312/0/5850", "-m", "put", "-e", "0", "-t", "0")
        assert there.meter.relay == "closed"


@needs_libcoap
def test_libcoap_registers_sends_and_is_told_only_after_the_commit(tmp_path: Path) -> None:
    links, pack = tmp_path / "links", tmp_path / "pack"
    links.write_bytes(b'</>;rt="oma.lwm2m";ct="110",</1/0>,</3/0>,</3331/0>')
    records = [
        f'{{"n":"/3331/0/5700","t":{now_us() // 1_000_000 - 900 * each},"v":{9_000 - each}}}'
        for each in range(40)
    ]
    # Nobody answers when it is asked for its unit, so that it has to say it itself.
    records.append('{"n":"/3331/0/5701","vs":"Wh"}')
    pack.write_text(f"[{','.join(reversed(records))}]")
    with line("NB-1", exchange_s_max=0.1) as here:
        own = ("-p", str(_free_port(LOOPBACK)), "-m", "post")
        server = f"coap://{here.server}"
        created = libcoap(
            f"{server}/rd?ep=NB-1&lt=60&lwm2m=1.1&b=U", *own, "-t", "40", "-f", str(links)
        )
        assert b"2.01" in created and here.session.registered() == 1
        # More than a block: libcoap cuts it, and what it sends is one message all the same.
        assert b"2.04" in libcoap(f"{server}/dp", *own, "-t", "110", "-f", str(pack))
        assert len(here.committed) == 40 and here.committed[-1][1] == 9_000
        here.pays = False
        assert b"5.03" in libcoap(f"{server}/dp", *own, "-t", "110", "-f", str(pack))
        assert b"4.04" in libcoap(f"{server}/dp", "-m", "post", "-t", "110", "-f", str(pack))
        assert b"4.03" in libcoap(f"{server}/rd?ep=NB-7", *own, "-t", "40", "-f", str(links))
        assert b"4.00" in libcoap(f"{server}/dp", *own, "-t", "110", "-e", "[{]")
