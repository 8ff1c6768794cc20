"""What runs during a scenario: PostgreSQL, Mosquitto, the head-end, the worker, a till, and the parts of the field.

Everything is in one folder and ends with the run. The platform's processes are the real ones, each under its own login;
the network server of LoRaWAN has a broker of its own, as it has in the field.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

from prewatt import wiring
from prewatt.core.civil_time import instant_us
from prewatt.migrate import migrate
from prewatt.runtime.broker import (
    LOOPBACK,
    BrokerCommand,
    free_port,
    prepare_broker,
    wait_until_listening,
)
from prewatt.runtime.embedded_postgres import EmbeddedPostgres
from prewatt.runtime.state import CannotRunError, own_directory
from prewatt.runtime.supervisor import Supervisor, prewatt_command
from prewatt.scenarios.certificates import Certificates
from prewatt.scenarios.estate import (
    POOR_MICRO_PER_S,
    Estate,
    make_elsewhere,
    make_estate,
    rights,
)
from prewatt.scenarios.parts import STOLEN, STOLEN_SECRET, Addresses, Prepared, make_keys, prepare
from prewatt.scenarios.population import Field, populate
from prewatt.scenarios.scenario import Scenario
from prewatt.scenarios.teller import TellerPlan
from prewatt.sim.records import COUNTS, Counts, read_counts

BROKER: Final = "broker"
NETWORK_SERVER: Final = "network-server"
HEAD_END: Final = "head-end"
WORKER: Final = "worker"
TELLER: Final = "teller"
JOURNAL: Final = "journal.jsonl"

_READY_S: Final = 120.0
_PAST: Final = timedelta(hours=1)
#: So many connections a second are made at the start; the scenario's clock begins when all can be there.
_CONNECTS_PER_S: Final = 120
_FILES_BESIDE: Final = 2_000
#: How long the credit of the poor lasts where nobody sells any.
_LASTS_S: Final = 40


@dataclass(slots=True, eq=False)
class World:
    """What runs. Made by ``world``."""

    scenario: Scenario
    seed: str
    folder: Path
    supervisor: Supervisor
    owner_dsn: str
    field: Field
    estate: Estate
    broker: BrokerCommand
    addresses: Addresses
    certificates: Certificates | None
    parts: tuple[Prepared, ...]
    start_us: int
    journal: Path
    till: tuple[list[str], dict[str, str]] | None
    postgres_pid: int | None
    restarted: dict[str, int] = dataclass_field(default_factory=dict)

    def owner(self) -> psycopg.Connection[Any]:
        """A connection that sees everything."""
        return psycopg.connect(self.owner_dsn, autocommit=True)

    def counts(self) -> Counts:
        """How the whole field is doing."""
        each = [read_counts(part.folder / COUNTS) for part in self.parts]
        return Counts(
            **{
                name: sum(getattr(one, name) for one in each)
                for name in ("meters", "connected", "taken", "waiting", "told")
            },
            is_draining=all(one.is_draining for one in each),
        )

    def now_s(self) -> float:
        """The scenario's clock: seconds since its start, negative before."""
        return (time.time_ns() // 1_000 - self.start_us) / 1_000_000

    def tell_parts(self, number: int) -> None:
        """Send a signal to each part of the field."""
        for part in self.parts:
            pid = self.supervisor.pid(part.name)
            if pid is None:
                raise CannotRunError(
                    f"{part.name} ended by itself; see {self.supervisor.log_path(part.name)}"
                )
            os.kill(pid, number)

    def stop_reading(self) -> None:
        """Let no meter take another reading by its clock."""
        self.tell_parts(signal.SIGUSR1)

    def open_till(self) -> None:
        """Begin to sell, where somebody shall."""
        if self.till is not None:
            self.supervisor.start(TELLER, *self.till, restart=False)

    def close_till(self) -> None:
        """Sell no more; the last wish gets its answer."""
        if self.till is not None:
            self.supervisor.stop_one(TELLER)

    def take_down(self, name: str, *, kill: bool = False) -> None:
        """A process goes, in order or as by a power cut; it stays down until ``bring_back``."""
        if kill:
            self.supervisor.kill(name)
        else:
            self.supervisor.stop_one(name)

    def bring_back(self, name: str) -> None:
        """It is started again."""
        self.restarted[name] = self.restarted.get(name, 0) + 1
        self.supervisor.start_again(name)


@contextlib.contextmanager
def world(
    scenario: Scenario, seed: str, folder: Path, *, tell: Callable[[str], None]
) -> Iterator[World]:
    """Make everything in an empty folder, start it, and end it; the folder is kept."""
    own_directory(folder)
    if os.geteuid() == 0:
        # Mosquitto gives root up, and passes through here to its own.
        folder.chmod(0o755)
    made = populate(scenario, seed)
    raise_file_limit(scenario.count)
    postgres = EmbeddedPostgres(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.stop)
        owner_dsn = postgres.start()
        began = time.monotonic()
        estate = _estate(owner_dsn, folder, scenario, made)
        tell(f"{scenario.count:,} meters imported in {time.monotonic() - began:.0f} s")
        certificates, broker = _broker(scenario, made, folder, tell)
        supervisor = stack.enter_context(Supervisor(folder, stop_timeout_s=30.0))
        keys = make_keys(made, folder / "lwm2m-keys")
        addresses = _start_brokers(supervisor, scenario, broker, folder)
        environ = {**keys.environ, **wiring.signing_keys(folder)}
        _start_platform(supervisor, postgres, scenario, addresses, environ, certificates)
        addresses = replace(addresses, trusts=wiring.instruction_keys(folder))
        connections = sum(each.radio != "concentrator" for each in made.meters)
        if certificates is not None and scenario.attacks:
            first = next((each.serial for each in made.meters if each.radio == "mqtt"), "NOBODY")
            addresses = replace(addresses, foreign=str(certificates.foreign(first)))
        lead_s = 3 + connections // _CONNECTS_PER_S
        start_us = time.time_ns() // 1_000 + lead_s * 1_000_000
        parts = prepare(
            made, scenario=scenario, seed=seed, folder=folder / "parts", addresses=addresses,
            opened_us=instant_us(wiring.now()), start_us=start_us, keys=keys.of,
        )  # fmt: skip
        for part in parts:
            supervisor.start(part.name, part.command, restart=False)
        yield World(
            scenario, seed, folder, supervisor, owner_dsn, made, estate, broker, addresses,
            certificates, tuple(parts), start_us,
            folder / JOURNAL, _till(postgres, scenario, made, estate, folder),
            postgres.pid,
        )  # fmt: skip


def raise_file_limit(meters: int) -> None:
    """Let this process and its children have a socket for each meter. Raises CannotRunError."""
    needed = meters + _FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (ValueError, OSError):
        raise CannotRunError(
            f"{needed} open files are needed, and {hard} are allowed: raise the limit (ulimit -Hn), or run "
            "fewer meters"
        ) from None


def _estate(owner_dsn: str, folder: Path, scenario: Scenario, made: Field) -> Estate:
    os.environ.update(
        PREWATT_DSN=owner_dsn, PREWATT_SECRET_KEY=secrets.token_hex(16), PREWATT_OUTBOX="1"
    )
    os.environ.pop("PREWATT_OPS", None)
    wiring.start_django("scenario")
    from django.db import connection

    now = wiring.now()
    migrate(passwords=wiring.role_passwords(folder), today=now.date())
    lasts_s = scenario.recharges.lasts_s if scenario.recharges is not None else _LASTS_S
    estate = make_estate(
        made.meters, poor_micro=lasts_s * POOR_MICRO_PER_S // 2, opened_at=now - _PAST, now=now
    )
    if scenario.attacks:
        make_elsewhere(STOLEN, STOLEN_SECRET, opened_at=now - _PAST, now=now)
    connection.close()
    return estate


def _broker(
    scenario: Scenario, made: Field, folder: Path, tell: Callable[[str], None]
) -> tuple[Certificates | None, BrokerCommand]:
    if not scenario.tls:
        return None, prepare_broker(folder / "broker")
    certificates = Certificates(folder / "broker", wiring.now())
    behind = rights(made.meters)
    names = [each.serial for each in made.meters if each.radio == "mqtt"]
    began = time.monotonic()
    certificates.give([*names, *behind])
    if scenario.attacks:
        certificates.give([STOLEN], elsewhere=True)
    tell(f"{len(names) + len(behind):,} certificates in {time.monotonic() - began:.0f} s")
    return certificates, certificates.broker(behind)


def _start_brokers(
    supervisor: Supervisor, scenario: Scenario, broker: BrokerCommand, folder: Path
) -> Addresses:
    """Both brokers, where there are two."""
    supervisor.start(BROKER, broker.arguments, restart=False)
    server = None
    if any(each.radio == "lorawan" for each in scenario.meters):
        server = prepare_broker(folder / NETWORK_SERVER)
        supervisor.start(NETWORK_SERVER, server.arguments, restart=False)
        wait_until_listening(server)
    wait_until_listening(broker)
    has_coap = any(each.radio == "lwm2m" for each in scenario.meters)
    return Addresses(
        mqtt=(broker.host, broker.port),
        tls=str(folder / "broker" / "clients") if scenario.tls else "",
        # Of UDP: where somebody else has that one, the system would hand each of both a part of the datagrams.
        coap=f"{LOOPBACK}:{free_port(socket.SOCK_DGRAM)}" if has_coap else "",
        network_server=(server.host, server.port) if server is not None else None,
    )


def _start_platform(
    supervisor: Supervisor,
    postgres: EmbeddedPostgres,
    scenario: Scenario,
    addresses: Addresses,
    keys: Mapping[str, str],
    certificates: Certificates | None,
) -> None:
    """Head-end and worker under their own logins."""
    environ = {"PREWATT_DSN": postgres.dsn("head_end"), **keys}
    options = ["--mqtt", f"{addresses.mqtt[0]}:{addresses.mqtt[1]}"]
    if certificates is not None:
        options += ["--mqtt-tls", str(certificates.clients)]
    if addresses.coap:
        options += ["--coap", addresses.coap]
        if any(each.radio == "lwm2m" and each.oscore_percent < 100 for each in scenario.meters):
            options.append("--coap-open")
    if addresses.network_server is not None:
        host, port = addresses.network_server
        options += ["--lorawan", f"chirpstack://{host}:{port}"]
    command = prewatt_command("hes", *options, "--shards", str(scenario.shards))
    supervisor.start(HEAD_END, command, environ, restart=False)
    supervisor.start(
        WORKER, prewatt_command("worker"), {"PREWATT_DSN": postgres.dsn("clerk")}, restart=False
    )
    supervisor.wait_ready(HEAD_END, timeout_s=_READY_S)


def _till(
    postgres: EmbeddedPostgres, scenario: Scenario, made: Field, estate: Estate, folder: Path
) -> tuple[list[str], dict[str, str]] | None:
    """How the till is started, where there is one."""
    if scenario.recharges is None:
        return None
    plan = TellerPlan(
        estate.property_id,
        tuple(estate.meters[each.serial][1] for each in made.meters if each.is_poor),
        scenario.recharges.lasts_s * POOR_MICRO_PER_S,
        scenario.recharges.per_second,
        str(folder / JOURNAL),
    )
    path = folder / "teller.json"
    path.write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-P", "-m", "prewatt.scenarios.teller", str(path)]
    return command, {"PREWATT_DSN": postgres.dsn("web")}
