"""The brokers: loopback alone, data that outlive an orderly restart, and clear refusals."""

import socket
from pathlib import Path

import pytest
from paho.mqtt import publish, subscribe

from prewatt.runtime import broker as broker_module
from prewatt.runtime.broker import (
    Broker,
    BrokerCommand,
    BrokerError,
    BrokerKind,
    find_mosquitto,
    free_port,
    prepare_broker,
    read_address,
    wait_until_listening,
    write_address,
)


def _skip_without(kind: BrokerKind) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("NOT TESTED: Mosquitto is not installed here (apt-get install mosquitto)")


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_it_listens_on_the_loopback_address_alone(kind: BrokerKind, broker_folder: Path) -> None:
    _skip_without(kind)
    with Broker(broker_folder, kind=kind, port=free_port()) as command:
        assert command.kind == kind
        # Bound to one address, not to all: the same port is still free on another loopback address.
        with socket.socket() as other:
            other.bind(("127.0.0.2", command.port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", command.port), timeout=1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((command.host, command.port), timeout=1)


def test_mosquitto_keeps_its_data_over_an_orderly_restart(broker_folder: Path) -> None:
    _skip_without("mosquitto")
    broker = Broker(broker_folder, kind="mosquitto")
    with broker as command:
        publish.single("kept", b"x", qos=1, retain=True, hostname=command.host, port=command.port)
    with broker as command:
        message = subscribe.simple("kept", qos=1, hostname=command.host, port=command.port)  # type: ignore[no-untyped-call]  # paho's gap
        assert message.payload == b"x"


def test_without_mosquitto_it_is_amqtt(
    broker_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "_SEARCH_PATH", "/nonexistent")
    command = prepare_broker(broker_folder)
    assert (command.kind, command.protocol, command.host) == ("amqtt", "3.1.1", "127.0.0.1")
    with pytest.raises(BrokerError, match="not installed"):
        prepare_broker(broker_folder, kind="mosquitto")


def test_a_broker_that_does_not_come_up_is_reported() -> None:
    command = BrokerCommand("amqtt", (), free_port(), "3.1.1")
    with pytest.raises(BrokerError, match=str(command.port)):
        wait_until_listening(command, timeout_s=0.1)


def test_the_address_is_found_by_other_processes(tmp_path: Path) -> None:
    command = BrokerCommand("mosquitto", ("a", "b"), 1234, "5")
    write_address(tmp_path, command)
    assert read_address(tmp_path) == command
