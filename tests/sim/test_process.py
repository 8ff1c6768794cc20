"""Simulated meters over a real broker: the way of a reading and of an order, with both brokers."""

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.frames import (
    AnswerFrame,
    EventFrame,
    Frame,
    HelloFrame,
    ReadingsFrame,
    Watermark,
)
from prewatt.hes.probe import probe
from prewatt.hes.session import MqttConfig, MqttSession
from prewatt.runtime.broker import Broker
from prewatt.sim.command import run_meters, switch_fault
from prewatt.sim.process import SimConfig, SimFault, SimMeter, SimProcess, load_config
from waiting import eventually

F = TypeVar("F", HelloFrame, ReadingsFrame, AnswerFrame, EventFrame)

START_US = 1_764_000_000_000_000


def now_us() -> int:
    return time.time_ns() // 1_000


def sim_config(broker: Broker, tmp_path: Path, *serials: str, period_s: int = 1) -> SimConfig:
    return SimConfig(
        name="test",
        host=broker.command.host,
        port=broker.command.port,
        state_file=str(tmp_path / "meters.json"),
        report_period_s=period_s,
        meters=tuple(SimMeter(serial, "G2-A", 50_000_000, 1_000, START_US) for serial in serials),
    )


@contextmanager
def meters(config: SimConfig) -> Iterator[SimProcess]:
    process = SimProcess(config, now_us=now_us)
    thread = threading.Thread(target=process.run, daemon=True)
    thread.start()
    try:
        yield process
    finally:
        process.stop()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def head_end(broker: Broker, on_frame: Callable[[Frame], None]) -> Iterator[MqttSession]:
    command = broker.command
    config = MqttConfig(host=command.host, port=command.port, protocol=command.protocol)
    session = MqttSession(config, clock_us=now_us)
    session.start(on_frame)
    assert session.wait_connected(10)
    try:
        yield session
    finally:
        session.stop()


def take(frames: "queue.Queue[Frame]", kind: type[F], serial: str = "PW-1") -> F:
    deadline = time.monotonic() + 60
    while True:
        frame = frames.get(timeout=max(0.1, deadline - time.monotonic()))
        if isinstance(frame, kind) and frame.serial == serial:
            return frame


def test_a_meter_says_hello_reports_and_drops_only_at_the_watermark(
    broker: Broker, tmp_path: Path
) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    config = sim_config(broker, tmp_path, "PW-1", "PW-2")
    with head_end(broker, frames.put) as session, meters(config) as process:
        hello = take(frames, HelloFrame)
        assert abs(hello.meter_clock_us - now_us()) < 5_000_000
        first = take(frames, ReadingsFrame)
        # The broker has acknowledged it long since; the meter keeps it all the same.
        session.ack([hello.token, first.token])
        time.sleep(1.5)
        assert process.meter("PW-1").backlog >= 2
        kept = process.meter("PW-1").unacknowledged()
        session.publish_watermarks([Watermark("PW-1", 1, kept[-1][0], kept[0][0], kept[-1][1])])
        eventually(lambda: process.meter("PW-1").backlog <= 1)
        assert process.meter("PW-2").backlog >= 2
        # An installer who listens hears the same, and asks nothing.
        address = f"mqtt://{broker.command.host}:{broker.command.port}/PW-1"
        found = probe(address, timeout_s=20)
        assert found.relay == "closed" and found.clock_drift_s in range(-5, 5)
        assert found.registers["1.8.0"][0] >= kept[-1][1] and found.problems == []


def test_invariant_9_a_consumer_that_dies_before_its_commit_loses_no_reading(
    broker: Broker, tmp_path: Path
) -> None:
    """With Mosquitto the broker delivers again; with amqtt, which forgets, the meter's backlog does."""
    frames: queue.Queue[Frame] = queue.Queue()
    config = sim_config(broker, tmp_path, "PW-1")
    with meters(config) as process:
        with head_end(broker, frames.put):
            lost = take(frames, ReadingsFrame)
        # Never committed, never acknowledged. A reconnecting meter offers everything again.
        address = f"{broker.command.host}:{broker.command.port}"

        def is_away() -> bool:
            # Said again, since a switch that comes before its process listens is nobody's.
            switch_fault("PW-1", "outage", 1, address)
            return not process.meter("PW-1").is_online

        eventually(is_away)
        received: set[int] = set()
        again: queue.Queue[Frame] = queue.Queue()
        with head_end(broker, again.put):
            switch_fault("PW-1", "outage", 0, address)
            deadline = time.monotonic() + 60
            while int(lost.read_at_us[0]) not in received and time.monotonic() < deadline:
                received |= set(take(again, ReadingsFrame).read_at_us.tolist())
        assert set(lost.read_at_us.tolist()) <= received


def test_an_order_is_answered_at_once_and_the_relay_read_back(
    broker: Broker, tmp_path: Path
) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    config = sim_config(broker, tmp_path, "PW-1", period_s=60)
    with head_end(broker, frames.put) as session, meters(config) as process:
        take(frames, HelloFrame)
        time.sleep(0.3)
        for number, state in enumerate(["open", "closed"] * 10):
            at_us = now_us()
            relay = codec.Command(f"{number}.relay", "relay", state, at_us, at_us + 60_000_000)  # type: ignore[arg-type]  # a list of literals
            assert session.send_command("PW-1", relay)
            assert take(frames, AnswerFrame).relay == state
            read = codec.Command(f"{number}.read", "read", None, at_us, at_us + 60_000_000)
            assert session.send_command("PW-1", read)
            answer = take(frames, AnswerFrame)
            assert (answer.command_id, answer.relay) == (f"{number}.read", state)
        assert process.meter("PW-1").relay == "closed"


def test_faults_are_switched_while_it_runs(broker: Broker, tmp_path: Path) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    address = f"{broker.command.host}:{broker.command.port}"
    config = sim_config(broker, tmp_path, "PW-1", period_s=60)
    with head_end(broker, frames.put), meters(config) as process:
        take(frames, HelloFrame)
        time.sleep(0.3)
        assert switch_fault("PW-1", "cover_open", 1, address) == 0
        assert take(frames, EventFrame).code == "cover_open"
        assert switch_fault("PW-1", "outage", 1, address) == 0
        eventually(lambda: not process.meter("PW-1").is_online)
        assert switch_fault("PW-1", "heater", 2_000, address) == 0
        eventually(lambda: process.meter("PW-1").faults["heater"] == 2_000)
        assert switch_fault("PW-1", "outage", 0, address) == 0
        assert take(frames, HelloFrame).serial == "PW-1"
        assert switch_fault("a/b", "outage", 0, address) == 2


def test_meters_come_back_after_the_broker_does(broker: Broker, tmp_path: Path) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    config = sim_config(broker, tmp_path, "PW-1", "PW-2")
    with head_end(broker, frames.put), meters(config) as process:
        take(frames, HelloFrame, "PW-2")
        broker.stop(kill=True)
        eventually(lambda: not process.meter("PW-1").is_online)
        while not frames.empty():
            frames.get()
        broker.start()
        # A killed broker has forgotten who subscribed, so the hellos may come too early for the head-end;
        # the next readings do not.
        assert take(frames, ReadingsFrame, "PW-1").meter_clock_us is not None
        assert process.meter("PW-2").backlog >= 2


def test_a_killed_process_takes_up_where_it_was(mosquitto: Broker, tmp_path: Path) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    config = sim_config(mosquitto, tmp_path, "PW-1", period_s=60)
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(config))
    assert load_config(path) == config
    script = f"from prewatt.sim.command import run_meters; run_meters(__import__('pathlib').Path({str(path)!r}))"
    arguments = [sys.executable, "-c", script]
    with head_end(mosquitto, frames.put) as session:
        process = subprocess.Popen(arguments)
        take(frames, HelloFrame)
        at_us = now_us()
        time.sleep(0.3)
        relay = codec.Command("1.relay", "relay", "open", at_us, at_us + 60_000_000)
        assert session.send_command("PW-1", relay)
        first = take(frames, AnswerFrame)
        time.sleep(0.2)
        process.kill()
        process.wait()
        process = subprocess.Popen(arguments)
        assert take(frames, HelloFrame).relay == "open"
        time.sleep(0.3)
        assert session.send_command("PW-1", relay)
        again = take(frames, AnswerFrame)
        assert (again.at_us, again.register_wh) == (first.at_us, first.register_wh)
        process.terminate()
        assert process.wait(10) == 0


def test_configured_faults_are_switched_at_every_start(broker: Broker, tmp_path: Path) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    address = f"{broker.command.host}:{broker.command.port}"
    faults = (SimFault("PW-1", "heater", 2_000), SimFault("PW-2", "outage", 1))
    config = msgspec.structs.replace(
        sim_config(broker, tmp_path, "PW-1", "PW-2", period_s=60), faults=faults
    )
    with head_end(broker, frames.put):
        with meters(config) as process:
            take(frames, HelloFrame)
            assert process.meter("PW-1").faults["heater"] == 2_000
            time.sleep(0.3)
            assert switch_fault("PW-1", "heater", 0, address) == 0
            eventually(lambda: process.meter("PW-1").faults["heater"] == 0)
            assert not process.meter("PW-2").is_online
        with meters(config) as process:
            assert process.meter("PW-1").faults["heater"] == 2_000


def test_a_wrong_configuration_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"name":"x","host":"h","port":1,"state_file":"s","meters":[{"serial":5}]}')
    assert run_meters(path) == 2
    assert "$.meters[0]" in capsys.readouterr().err
    meter = '{"serial":"PW-1","profile":"G2-A","scale_ppm":1,"start_register_wh":1,"start_at_us":1}'
    for wrong, words in (("PW-2", "no meter 'PW-2'"), ("PW-1", "no fault 'fire'")):
        path.write_text(
            f'{{"name":"x","host":"h","port":1,"state_file":"{tmp_path}/s","meters":[{meter}],'
            f'"faults":[["{wrong}","fire",1]]}}'
        )
        assert run_meters(path) == 2
        assert words in capsys.readouterr().err
