"""Meters with certificates at a real Mosquitto, with its own clients: who gets in, who hears what, what survives."""

from __future__ import annotations

import queue
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.db import connections
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from tests.conftest import role_dsn
from tests.devices.pki import Field, issuer_below
from tests.hes.test_concentrator_line import now
from tests.hes.test_ingest import Meters, frame
from tests.hes.test_session import running, take_readings, values
from tests.invariants.places import NOW, one, place, rows

import prewatt.hes.ingest as ingest
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.devices import authority
from prewatt.devices.broker_files import RIGHTS, rights
from prewatt.devices.operations import Enrolled, enrol, keep_issuer, make_code, renew, revoke
from prewatt.head_end import raise_device_alert
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.frames import Frame, ReadingsFrame, RenewalFrame
from prewatt.hes.ingest import ShardedIngest
from prewatt.hes.main import HeadEnd, mqtt_config, mqtt_opener
from prewatt.hes.session import MqttConfig, MqttSession
from prewatt.hes.wire import TlsFiles
from prewatt.runtime.broker import Broker, find_mosquitto
from prewatt.settings import _database
from prewatt.sim.process import SimConfig, SimMeter, SimProcess
from prewatt.supply.orders import OrderBook
from waiting import eventually

REAL = datetime.now(UTC)
T = 1_764_000_000_000_000
METERS = ("PW-1", "PW-2", "PW-3", "PW-4")


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    """Authorities, three meters, and what nobody believes: one expired, one of another root."""
    folder = Path(tempfile.mkdtemp(prefix="prewatt-tls-"))
    folder.chmod(0o755)
    made = Field(folder, REAL - timedelta(days=500))
    for serial in METERS:
        made.give(serial, at=REAL)
    made.give("OLD")
    stranger = issuer_below(authority.make_root("Other", now=REAL), "P", now=REAL)
    made.give("FOREIGN", at=REAL, issuer=stranger)
    made.give("NEXT", at=REAL, issuer=made.following)
    made.now = REAL
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def broker(field: Field) -> Iterator[Broker]:
    if find_mosquitto() is None or shutil.which("mosquitto_pub") is None:
        pytest.skip("NOT TESTED: apt-get install mosquitto mosquitto-clients")
    made = field.broker()
    made.start()
    yield made
    made.stop()


def config(broker: Broker, field: Field, **changes: object) -> MqttConfig:
    port = broker.command.port
    return MqttConfig(
        host="127.0.0.1",
        port=port,
        tls=TlsFiles(field.clients),
        **changes,  # type: ignore[arg-type]
    )


def iter_now(frames: queue.Queue[Frame]) -> Iterator[Any]:
    while not frames.empty():
        yield frames.get()


def restart(broker: Broker) -> None:
    """Orderly, as an operator does it: what is queued is kept."""
    broker.stop()
    broker.start()


def test_only_a_certificate_that_holds_gets_in_and_speaks_for_itself_alone(
    broker: Broker, field: Field
) -> None:
    port = broker.command.port
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(broker, field), clock_us=lambda: 1)

    def say(name: str | None, of: str, *more: str) -> str:
        reading = codec.encode_readings(of.partition("/")[0], [(T, 1, 7)]).decode()
        done = field.mosquitto(
            "mosquitto_pub", port, name, f"pw/{of}/up/readings", "-m", reading, *more
        )
        return f"{done.returncode} {done.stderr.strip()}".strip()

    with running(session, frames.put):
        assert say("PW-1", "PW-1") == "0"
        assert values(take_readings(frames, 1)) == [7]
        assert say("NEXT", "NEXT") == "0", "signed by the next issuer, while the former is believed"
        assert values(take_readings(frames, 1)) == [7]
        assert "Not authorized" in say("PW-2", "PW-1")
        assert "Not authorized" in say("PW-2", "PW-2/x/../PW-1")
        for name in (None, "FOREIGN", "OLD"):
            assert say(name, "PW-1")[0] != "0", name
        older = TlsFiles(field.clients, "PW-1").context()
        older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_2
        opened = socket.create_connection(("127.0.0.1", port))
        with pytest.raises(ssl.SSLError), opened:
            older.wrap_socket(opened, server_hostname="127.0.0.1")
        field.write_lists(revoked=["PW-3"])
        restart(broker)
        assert say("PW-3", "PW-3")[0] != "0"
        assert say("PW-1", "PW-1") == "0"
        assert values(take_readings(frames, 1)) == [7]
        # What was not acknowledged comes again; nobody else was heard.
        assert {each.serial for each in iter_now(frames)} <= {"PW-1", "NEXT"}
    field.write_lists()
    restart(broker)


def test_nobody_hears_what_is_meant_for_another_or_takes_its_session(
    broker: Broker, field: Field
) -> None:
    """Each asks for everything, and one by the name of another; each gets its own, and no more."""
    port = broker.command.port
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(broker, field), clock_us=lambda: 1)
    heard: dict[str, str] = {}

    def listen(name: str, *more: str) -> None:
        done = field.mosquitto("mosquitto_sub", port, name, "#", "-t", "pw/+/down/+", "-v",
                               "-F", "%t", "-C", "1", "-W", "8", *more)  # fmt: skip
        heard[name] = done.stdout.strip()

    with running(session, frames.put):
        listeners = [
            threading.Thread(target=listen, args=("PW-1", "-i", "PW-2")),
            threading.Thread(target=listen, args=("PW-2",)),
        ]
        for each in listeners:
            each.start()
        command = codec.Command("5.1.read", "read", None, T, T + 1)
        until = time.monotonic() + 8
        # First what nobody may hear, then each one's own.
        while len(heard) < 2 and time.monotonic() < until:
            session.send_command("PW-3", command)
            session.send_command("PW-2", command)
            session.send_command("PW-1", command)
            time.sleep(0.1)
        for each in listeners:
            each.join()
    assert heard == {"PW-1": "pw/PW-1/down/command", "PW-2": "pw/PW-2/down/command"}


def test_a_concentrator_speaks_for_its_meters_until_it_is_shut_out(
    broker: Broker, field: Field
) -> None:
    """By rights alone, while its certificate is on no list: what a connection would have that outlived it."""
    field.give("DTU-1")
    port = broker.command.port

    def speaks_for(serial: str) -> bool:
        done = field.mosquitto("mosquitto_pub", port, "DTU-1", f"pw/{serial}/up/hello", "-m", "{}")
        return done.returncode == 0 and "Not authorized" not in done.stderr

    behind = {"DTU-1": ["PW-2"]}
    field.write_lists(concentrators=behind)
    restart(broker)
    assert [speaks_for(each) for each in ("DTU-1", "PW-2", "PW-3")] == [True, True, False]
    (field.folder / RIGHTS).write_text(rights(behind, ["DTU-1"]))
    restart(broker)
    assert [speaks_for(each) for each in ("DTU-1", "PW-2", "PW-3")] == [False] * 3
    field.write_lists()
    restart(broker)


def simulated(broker: Broker, field: Field, folder: Path, serials: tuple[str, ...]) -> SimProcess:
    began_us = instant_us(NOW)
    return SimProcess(
        SimConfig(
            name="tls", host="127.0.0.1", port=broker.command.port, tls=str(field.clients),
            state_file=str(folder / "state.json"), report_period_s=1,
            meters=tuple(SimMeter(each, "H0-A", 20_000_000, 10_000, began_us) for each in serials),
        ),
        now_us=lambda: instant_us(now()),
    )  # fmt: skip


def run(process: SimProcess) -> Callable[[], None]:
    """Run it in a thread; what is returned ends it."""
    thread = threading.Thread(target=process.run, daemon=True)
    thread.start()

    def end() -> None:
        process.stop()
        thread.join(10)

    return end


def test_a_restart_of_the_broker_loses_neither_a_queued_command_nor_a_reading(
    broker: Broker, field: Field, tmp_path: Path
) -> None:
    """Each side is away while the other speaks, and the broker is stopped in between."""
    process = simulated(broker, field, tmp_path, ("PW-2",))
    frames: queue.Queue[Frame] = queue.Queue()
    first = MqttSession(config(broker, field), clock_us=lambda: 1)
    with running(first, frames.put):
        end = run(process)
        read_from(frames, "PW-2")
        end()
        meant = now()
        command = codec.Command(
            "9.1.relay", "relay", "open", instant_us(meant), instant_us(meant + timedelta(hours=1))
        )
        assert first.send_command("PW-2", command)
        eventually(lambda: not first._commands._flying, "the broker has it")
    port = broker.command.port
    reading = codec.encode_readings("PW-3", [(T, 1, 77)]).decode()
    done = field.mosquitto("mosquitto_pub", port, "PW-3", "pw/PW-3/up/readings", "-m", reading)
    assert done.returncode == 0
    restart(broker)
    frames = queue.Queue()
    again = MqttSession(config(broker, field), clock_us=lambda: 2)
    back = simulated(broker, field, tmp_path, ("PW-2",))
    assert back.meter("PW-2").relay == "closed"
    with running(again, frames.put), ExitStack() as stack:
        stack.callback(run(back))
        assert read_from(frames, "PW-3") == [77], "the reading waited"
        eventually(lambda: back.meter("PW-2").relay == "open", "the command waited")


def read_from(frames: queue.Queue[Frame], serial: str) -> list[int]:
    """The values of the first readings of a meter."""
    while True:
        taken = frames.get(timeout=10)
        if isinstance(taken, ReadingsFrame) and taken.serial == serial:
            return taken.value.tolist()


def test_a_full_queue_holds_the_socket_back_under_tls_and_loses_nothing(
    broker: Broker, field: Field
) -> None:
    """Large messages too, of which a record holds a part, and many small ones in a record."""
    release = threading.Event()
    seen: queue.Queue[Frame] = queue.Queue()

    def slow(frame: Frame) -> None:
        release.wait(20)
        seen.put(frame)

    session = MqttSession(config(broker, field, queue_frames_max=40), clock_us=lambda: 1)
    client = Client(CallbackAPIVersion.VERSION2, client_id="PW-4")
    client.tls_set_context(TlsFiles(field.clients, "PW-4").context())
    with running(session, slow):
        client.connect("127.0.0.1", broker.command.port)
        client.loop_start()
        rows_of = [(T + at * 1_000_000, 1, at) for at in range(1_500)]
        for number in range(200):
            many = rows_of if number % 20 == 0 else [(T, 1, number)]
            client.publish("pw/PW-4/up/readings", codec.encode_readings("PW-4", many), qos=1)
        eventually(lambda: session.stats().queued >= 40, "the queue is full")
        assert session.stats().received < 200, "nor is all of it taken into memory"
        release.set()
        # Before them comes what other tests have left.
        taken: list[ReadingsFrame] = []
        while len(taken) < 200:
            each = seen.get(timeout=10)
            session.ack([each.token])
            if isinstance(each, ReadingsFrame) and each.serial == "PW-4":
                taken.append(each)
        client.disconnect()
        client.loop_stop()
        assert session.stats().unacknowledged == 0
    sizes = [len(each) for each in taken]
    assert sizes == [1_500 if number % 20 == 0 else 1 for number in range(200)]


def test_a_meter_is_charged_over_tls_renews_itself_and_is_shut_out_when_it_is_revoked(
    broker: Broker,
    field: Field,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    login = role_dsn(database, "head_end")
    changed = {**connections.settings["default"], **_database(login)}
    monkeypatch.setitem(connections.settings, "default", changed)
    here = place()
    serial = one("SELECT serial FROM meter WHERE id = %s", here.meters["M-101"])
    actor = system_actor("test")
    given = {"actor": actor, "property_id": here.property_id, "serial": serial, "now": NOW}
    keep_issuer(
        actor=actor, property_id=here.property_id, certificate=field.issuer.certificate, now=NOW
    )

    def enrolled(at: datetime, key: authority.Key) -> Enrolled:
        request = authority.make_request(serial, key)
        when = {**given, "now": at}
        return enrol(**when, code=make_code(**when), request=request, issuer=field.issuer)  # type: ignore[arg-type]

    def renewed(frame: RenewalFrame, at: datetime) -> bytes:
        return renew(
            actor=system_actor("head_end"), serial=frame.serial, request=frame.request,
            signature=frame.signature, issuer_of=lambda _code: field.issuer, now=at,
        ).chain  # fmt: skip

    key = authority.new_key()
    first = enrolled(NOW - timedelta(days=300), key).certificate
    field.keep(serial, first, field.issuer, key)
    head_end = HeadEnd(
        openers=[
            mqtt_opener(
                mqtt_config(f"127.0.0.1:{broker.command.port}", TlsFiles(field.clients)), clock=now
            )
        ],
        dsn=login, clock=now, orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert, renew=renewed,
        make_ingest=lambda session: ShardedIngest(session, clock=now),
    )  # fmt: skip
    process = simulated(broker, field, tmp_path, (serial,))
    stored = "SELECT count(*) FROM register_reading WHERE meter_id = %s AND read_at >= %s"
    with ExitStack() as stack:
        head_end.start()
        stack.callback(head_end.stop)
        stack.callback(run(process))
        eventually(lambda: one(stored, here.meters["M-101"], NOW) >= 2, "its readings are stored")
        eventually(lambda: process.meter(serial).backlog <= 2, "and it forgets them")
        # Its certificate is in its last quarter: it asked for the next one itself, by the one it has.
        eventually(lambda: shown(field, serial) != first, "it has its next certificate")
        last = one("SELECT max(read_at) FROM register_reading")
        eventually(lambda: one(stored, here.meters["M-101"], last) >= 3, "and goes on with it")
    assert head_end.failure is None
    latest = "SELECT number FROM device_certificate WHERE replaced_at IS NULL"
    assert one(latest) == f"{shown(field, serial).serial_number:x}"
    assert rows("SELECT serial, reason FROM rejected_frame") == []

    # What is revoked is refused whoever lets it in, and kept by the meter, which hears of no watermark.
    later = frame(here, "M-101", (1, now() + timedelta(minutes=1), 99_000))
    assert revoke(**given, reason="stolen") == 2  # type: ignore[arg-type]
    refused = taken_by_ingest(later)
    assert (len(refused.acked), refused.marks) == (1, [])
    assert rows("SELECT serial, reason FROM rejected_frame") == [(serial, "isolated")]
    enrolled(NOW, authority.new_key())
    assert len(taken_by_ingest(later).marks) == 1


def shown(field: Field, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((field.clients / f"{name}.pem").read_bytes())


def taken_by_ingest(*frames: ReadingsFrame) -> Meters:
    heard = Meters()
    loop = ingest.IngestLoop(heard, clock=lambda: now() + timedelta(minutes=2))
    loop._apply_until_done(list(frames))
    return heard
