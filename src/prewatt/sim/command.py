"""`prewatt sim`: run simulated meters, or switch a fault of one that is running.

Meters with a broker connection many in a process, by a configuration; a meter on NB-IoT by its arguments.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import TypeAlias

import msgspec
from paho.mqtt import MQTTException, publish

from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.runtime.broker import read_address
from prewatt.runtime.state import state_directory
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import FAULTS, MeterConfig, SimulatedMeter, UnknownFault
from prewatt.sim.process import fault_topic, load_config, run_process

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_arguments(parser: argparse.ArgumentParser) -> Commands:
    """Add the sub-commands `meters`, `fault`, `lwm2m`, `devices`, `lora` and `attack`; returns them, for more."""
    commands = parser.add_subparsers(dest="sim_command", required=True)
    meters = commands.add_parser("meters", help="run the simulated meters of a configuration")
    meters.add_argument("--config", type=Path, required=True, metavar="FILE")
    fault = commands.add_parser("fault", help="switch a fault or an extra load of a running meter")
    fault.add_argument("serial")
    fault.add_argument("name", choices=FAULTS)
    fault.add_argument("value", nargs="?", type=int, default=1, help="0 switches off (default: 1)")
    fault.add_argument("--broker", metavar="HOST:PORT", help="default: the running demo's")
    add_device(commands.add_parser("lwm2m", help="run one LwM2M meter, which other tools can read"))
    for name, what in (
        ("devices", "LwM2M meters"),
        ("lora", "a LoRaWAN field"),
        ("attack", "attackers"),
    ):
        part = commands.add_parser(name, help=f"run {what} of a configuration")
        part.add_argument("--config", type=Path, required=True, metavar="FILE")
    return commands


def add_device(parser: argparse.ArgumentParser) -> None:
    """What makes a meter on NB-IoT."""
    parser.add_argument("serial")
    parser.add_argument(
        "--server", required=True, metavar="HOST:PORT", help="of `prewatt hes --coap`"
    )
    parser.add_argument("--port", type=int, default=0, help="to answer at (default: a free one)")
    parser.add_argument("--profile", default="H0-A", help="its load (default: H0-A)")
    parser.add_argument("--register", type=int, default=0, metavar="WH", help="where it begins")
    parser.add_argument("--period", type=int, default=60, metavar="S", help="between readings")
    parser.add_argument("--lwm2m", choices=("1.0", "1.1"), default="1.1", help="1.0 cannot send")
    parser.add_argument("--sleep", type=float, metavar="S", help="between its moments awake")
    parser.add_argument("--key", type=Path, metavar="FILE", help="as `prewatt meter key` prints it")
    parser.add_argument(
        "--signs",
        type=Path,
        metavar="FILE",
        help='its own key and whom it trusts, {"secret": HEX, "trusts": {ID: POINT}}: it does nothing of weight unsigned',
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=VALUE", help=", ".join(FAULTS)
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status, 2 for a refusal."""
    if arguments.sim_command == "meters":
        return run_meters(arguments.config)
    if arguments.sim_command in _PARTS:
        return run_part(arguments.sim_command, arguments.config)
    if arguments.sim_command == "lwm2m":
        return run_device(arguments)
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


_PARTS = ("devices", "lora", "attack")


def run_part(kind: str, path: Path) -> int:
    """Run the devices of a configuration until told to stop; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        content = path.read_bytes()
        if kind == "devices":
            from prewatt.sim.devices_process import DevicesConfig, run_devices

            run_devices(msgspec.json.decode(content, type=DevicesConfig))
        elif kind == "attack":
            from prewatt.sim.attackers import AttackersConfig, run_attackers

            run_attackers(msgspec.json.decode(content, type=AttackersConfig))
        else:
            from prewatt.sim.lorawan_process import LoraConfig, run_lora

            run_lora(msgspec.json.decode(content, type=LoraConfig))
    except (OSError, msgspec.DecodeError, UnknownFault) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    return 0


def run_device(arguments: argparse.Namespace) -> int:
    """Run one LwM2M meter until it is interrupted; returns the exit status."""
    from prewatt.sim.lwm2m import DeviceConfig, LwM2mDevice, read_key, read_signing

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    began_us = time.time_ns() // 1_000
    try:
        meter = SimulatedMeter(
            MeterConfig(
                arguments.serial,
                load_profile(arguments.profile),
                1_000_000,
                arguments.register,
                began_us,
                arguments.period * 1_000_000,
                **({} if arguments.signs is None else read_signing(arguments.signs)),
            )
        )
        for each in arguments.fault:
            name, _, value = each.partition("=")
            meter.set_fault(name, int(value or 1), began_us)
        config = DeviceConfig(
            arguments.server,
            version=arguments.lwm2m,
            sleeps_s=arguments.sleep,
            port=arguments.port,
            key=None if arguments.key is None else read_key(arguments.key),
        )
    except (UnknownFault, OSError, ValueError, KeyError) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return 2
    device = LwM2mDevice(meter, config, now_us=lambda: time.time_ns() // 1_000)
    asyncio.run(device.run())
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
