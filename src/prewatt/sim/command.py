"""`prewatt sim`: run simulated meters, or switch a fault of one that is running."""

import argparse
import json
import logging
import sys
from pathlib import Path

import msgspec
from paho.mqtt import MQTTException, publish

from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.runtime.broker import read_address
from prewatt.runtime.state import state_directory
from prewatt.sim.meter import FAULTS, UnknownFault
from prewatt.sim.process import fault_topic, load_config, run_process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `meters` and `fault`."""
    commands = parser.add_subparsers(dest="sim_command", required=True)
    meters = commands.add_parser("meters", help="run the simulated meters of a configuration")
    meters.add_argument("--config", type=Path, required=True, metavar="FILE")
    fault = commands.add_parser("fault", help="switch a fault or an extra load of a running meter")
    fault.add_argument("serial")
    fault.add_argument("name", choices=FAULTS)
    fault.add_argument("value", nargs="?", type=int, default=1, help="0 switches off (default: 1)")
    fault.add_argument("--broker", metavar="HOST:PORT", help="default: the running demo's")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status, 2 for a refusal."""
    if arguments.sim_command == "meters":
        return run_meters(arguments.config)
    return switch_fault(arguments.serial, arguments.name, arguments.value, arguments.broker)


def run_meters(path: Path) -> int:
    """Run until told to stop; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        config = load_config(path)
    except (OSError, msgspec.DecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    try:
        run_process(config)
    except UnknownFault as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    return 0


def switch_fault(serial: str, name: str, value: int, broker: str | None = None) -> int:
    """Switch a fault of one running meter; returns the exit status."""
    if not is_serial(serial):
        print(f"not a serial number: {serial!r}", file=sys.stderr)
        return 2
    try:
        host, port = _address(broker)
        publish.single(
            fault_topic(serial),
            json.dumps({"name": name, "value": value}),
            qos=1,
            hostname=host,
            port=port,
        )
    except (OSError, ValueError, MQTTException) as error:
        print(f"no broker to talk to: {error}", file=sys.stderr)
        return 2
    print(f"{serial}: {name} = {value}")
    return 0


def _address(broker: str | None) -> tuple[str, int]:
    if broker is None:
        found = read_address(state_directory())
        return found.host, found.port
    host, _, port = broker.rpartition(":")
    return host, int(port)
