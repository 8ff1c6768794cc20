"""`prewatt broker`: run an MQTT broker on loopback, Mosquitto where installed, amqtt otherwise."""

from __future__ import annotations

import argparse
import os

from prewatt.runtime.broker import BrokerError, prepare_broker, write_address
from prewatt.runtime.state import CannotRunError, state_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add port and kind."""
    parser.add_argument("--port", type=int, help="default: any that is free")
    parser.add_argument("--kind", choices=("mosquitto", "amqtt"), help="default: what is installed")


def run(arguments: argparse.Namespace) -> int:
    """Become the broker; its address is left in the state directory."""
    state_dir = state_directory()
    try:
        command = prepare_broker(state_dir / "mqtt", port=arguments.port, kind=arguments.kind)
    except BrokerError as error:
        raise CannotRunError(str(error)) from error
    write_address(state_dir, command)
    print(f"{command.kind} on {command.host}:{command.port}", flush=True)
    os.execv(command.arguments[0], command.arguments)  # noqa: S606 - it becomes the broker
