"""The MQTT broker of a demo, a test or a small site: Mosquitto where installed, amqtt otherwise.

Both listen on the loopback address alone and let anybody in who can reach it. That is stated, not forgotten: on
one machine the broker guards nothing that a local user could not do to the processes themselves, readings
are judged by validation and not by their sender, and a broker that others can reach needs TLS and
per-meter access lists, which are the operator's own broker configuration and not this module's.

Mosquitto speaks MQTT 5 and keeps unacknowledged messages for a head-end that is away. amqtt speaks 3.1.1
only, keeps nothing for an absent client and drops what is not acknowledged within five seconds; nothing
is lost by that, since a meter drops its backlog only at the head-end's watermark.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from prewatt.runtime.children import die_with_parent

if TYPE_CHECKING:
    from types import TracebackType

BrokerKind = Literal["mosquitto", "amqtt"]
MqttProtocol = Literal["5", "3.1.1"]

LOOPBACK = "127.0.0.1"
_ADDRESS_FILE = "mqtt/address.json"
# Debian installs the broker where an ordinary user's PATH does not look.
_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

_MOSQUITTO_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
# The head-end bounds what is in flight by its own receive-maximum.
max_inflight_messages 0
max_queued_messages 100000
# Of large messages fewer: what is not queued was not acknowledged by name, and is sent again.
max_queued_bytes 536870912
max_packet_size 262144
persistence true
persistence_location {folder}/
# A crash of the broker loses at most this many seconds of queued messages; meters send them again.
autosave_interval 30
persistent_client_expiration 14d
sys_interval 0
connection_messages false
log_dest stderr
log_type error
log_type warning
{user}"""


class BrokerError(RuntimeError):
    """The broker is not installed, ended early or did not listen in time."""


@dataclass(frozen=True, slots=True)
class BrokerCommand:
    """How to start a broker, and where it will then listen and what it speaks."""

    kind: BrokerKind
    arguments: tuple[str, ...]
    port: int
    protocol: MqttProtocol
    host: str = LOOPBACK


def find_mosquitto() -> str | None:
    """Return the path of an installed Mosquitto, or None."""
    return shutil.which("mosquitto", path=_SEARCH_PATH)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of TCP, or of UDP (`SOCK_DGRAM`), that nobody on the loopback address uses at the moment."""
    with socket.socket(type=kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def prepare_broker(
    folder: Path, *, port: int | None = None, kind: BrokerKind | None = None
) -> BrokerCommand:
    """Write what the broker needs into `folder` and return how to start it.

    Without a `kind` it is Mosquitto where installed. Raises `BrokerError` if Mosquitto is asked for
    and missing.
    """
    port = port or free_port()
    mosquitto = find_mosquitto()
    if kind == "mosquitto" and mosquitto is None:
        raise BrokerError("Mosquitto is not installed")
    if kind == "amqtt" or mosquitto is None:
        arguments = (sys.executable, "-m", "prewatt.runtime.broker", str(port))
        return BrokerCommand("amqtt", arguments, port, "3.1.1")
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    user = ""
    if os.geteuid() == 0:
        # Mosquitto gives up root by itself; its data must then belong to whom it becomes, and no more.
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        user = "user nobody\n"
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        _MOSQUITTO_CONFIGURATION.format(port=port, folder=data.resolve(), user=user)
    )
    return BrokerCommand("mosquitto", (mosquitto, "-c", str(configuration)), port, "5")


def prepared_by(configuration: Path, *, port: int) -> BrokerCommand:
    """How to start Mosquitto with a configuration that somebody else has written, on loopback."""
    mosquitto = find_mosquitto()
    if mosquitto is None:
        raise BrokerError("Mosquitto is not installed")
    return BrokerCommand("mosquitto", (mosquitto, "-c", str(configuration)), port, "5")


def write_address(state_dir: Path, command: BrokerCommand) -> None:
    """Leave the running broker's address where the other processes of this checkout look for it."""
    path = state_dir / _ADDRESS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(command)))
    draft.replace(path)


def read_address(state_dir: Path) -> BrokerCommand:
    """Return what `write_address` left; raises `FileNotFoundError` if no broker was ever started."""
    kept = json.loads((state_dir / _ADDRESS_FILE).read_text())
    return BrokerCommand(**kept | {"arguments": tuple(kept["arguments"])})


def wait_until_listening(command: BrokerCommand, *, timeout_s: float = 10.0) -> None:
    """Return once the broker takes connections, or raise `BrokerError`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((command.host, command.port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"{command.kind} does not listen on port {command.port}: {error}"
                ) from error
            time.sleep(0.02)
        else:
            return


class Broker:
    """A broker of this process's own, for tests and drills: `with Broker(folder) as command: ...`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        kind: BrokerKind | None = None,
        log: IO[bytes] | None = None,
        prepared: BrokerCommand | None = None,
    ) -> None:
        self.command = prepared or prepare_broker(folder, port=port, kind=kind)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs; raises `BrokerError` if none does."""
        if self._process is None:
            raise BrokerError("the broker is not started")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens; a second start after `stop` reuses port and folder."""
        self._process = subprocess.Popen(
            self.command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=self._log or subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        try:
            wait_until_listening(self.command)
        except BrokerError:
            self.stop()
            raise

    def stop(self, *, kill: bool = False) -> None:
        """End it, orderly or (`kill`) the way a power cut would."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> BrokerCommand:
        self.start()
        return self.command

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


async def _serve_amqtt(port: int) -> None:
    # Imported here: only this process needs it, and it takes a third of a second.
    from amqtt.broker import (
        Broker as AmqttBroker,
    )

    broker = AmqttBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{LOOPBACK}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await broker.start()
    await stopped.wait()
    # No orderly shutdown: it waits for every client to leave, and the broker keeps nothing anyway.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_serve_amqtt(int(sys.argv[1])))
