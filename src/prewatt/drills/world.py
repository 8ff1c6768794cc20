"""A running Prewatt for one drill: database, broker, head-end, worker, tellers, and a field of meters.

Everything is in one folder and ends with the drill. The processes are the real ones, each under its own
database login; only the drill itself sees everything, as the owner.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from prewatt import wiring
from prewatt.core.civil_time import instant_us
from prewatt.drills.estate import Estate, make_estate, places_of
from prewatt.drills.field import Field
from prewatt.drills.lines import Line, PlainLine
from prewatt.drills.plan import TIME_ZONE
from prewatt.drills.report import Report
from prewatt.drills.teller import Journal
from prewatt.migrate import migrate
from prewatt.runtime.broker import BrokerKind, prepare_broker, wait_until_listening
from prewatt.runtime.embedded_postgres import EmbeddedPostgres
from prewatt.runtime.state import CannotRunError, own_directory
from prewatt.runtime.supervisor import ChildFailedError, Supervisor, prewatt_command

HEAD_END: Final = "head-end"
WORKER: Final = "worker"
BROKER: Final = "broker"

_PAST: Final = timedelta(days=60)
_READY_S: Final = 60.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: meters that are behind, meters of now, tellers, loops of ingest."""

    behind: int = 16
    live: int = 4
    tellers: int = 2
    shards: int = 2


@dataclass(frozen=True, slots=True)
class Routes:
    """Where each party finds the next one: the broker's address, the folder of the database's socket."""

    field_to_broker: tuple[str, int]
    head_end_to_broker: tuple[str, int]
    head_end_to_database: Path
    worker_to_database: Path
    tellers_to_database: Path


@dataclass(slots=True, eq=False)
class World:
    """What runs. Made by ``world``; the drill starts, kills and asks."""

    folder: Path
    seed: str
    postgres: EmbeddedPostgres
    supervisor: Supervisor
    owner_dsn: str
    estate: Estate
    field: Field
    teller_names: list[str]
    broker_kind: str
    environs: dict[str, dict[str, str]] = dataclass_field(default_factory=dict)
    #: What is meant to run: what of it ends by itself is started again.
    wanted: set[str] = dataclass_field(default_factory=set)
    ended_by_themselves: int = 0

    def owner(self) -> psycopg.Connection[Any]:
        """A connection that sees everything."""
        return psycopg.connect(self.owner_dsn, autocommit=True)

    def journals(self) -> list[Journal]:
        """What the tellers wrote down so far."""
        return [Journal.read(self.journal_path(name)) for name in self.teller_names]

    def journal_path(self, teller: str) -> Path:
        """Where a teller writes."""
        return self.folder / "journals" / f"{teller}.jsonl"

    def teller_command(self, name: str, *options: str) -> list[str]:
        """How a teller is started."""
        places = self.estate.places
        accounts = [str(place.account_id) for place in places]
        poor = [f"--poor={place.account_id}" for place in places if place.is_live]
        journal = str(self.journal_path(name))
        return [
            sys.executable, "-P", "-m", "prewatt.drills.teller", journal, f"{self.seed}-{name}",
            str(self.estate.property_id), *accounts, *poor, *options,
        ]  # fmt: skip

    def look_after(self) -> None:
        """Start again what ended by itself, as a supervisor in production would."""
        for name in sorted(self.wanted):
            if self.supervisor.pid(name) is None:
                self.ended_by_themselves += 1
                self.supervisor.start_again(name)
        if self.field.failure is not None:
            raise CannotRunError(f"the field failed: {self.field.failure!r}")

    def wait_until(
        self, what: str, holds: Callable[[], bool], *, timeout_s: float = _READY_S
    ) -> None:
        """Wait until something holds, looking after the processes; raises `DrillStuck`."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise DrillStuck(f"not within {timeout_s:g} s: {what}")
            self.look_after()
            time.sleep(_POLL_S)

    def run_for(self, seconds: float) -> None:
        """Let it run, looking after the processes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look_after()
            time.sleep(min(left, 0.25))

    def wait_ready(self, name: str) -> None:
        """Wait until a child does its work; one that ends by itself meanwhile is started again."""
        self.wait_until(f"{name} is ready", lambda: self.supervisor.is_ready(name))

    def start_postgres(self) -> None:
        """Start the database after a crash, or find it at work again, and wait until it answers."""
        self.postgres.start()
        self.wait_until("the database answers", self._answers)

    def drain(self, *, timeout_s: float = 120.0) -> None:
        """Take no more readings, and wait until every one that was taken is known to be committed.

        A busy machine may take its time: only when none is committed for `timeout_s` is it stuck.
        """
        self.field.stop_reading()
        while waiting := self.field.waiting():
            self.wait_until(
                f"one of the last {waiting} readings is committed",
                lambda: self.field.waiting() < waiting,
                timeout_s=timeout_s,
            )

    def close_tills(self) -> None:
        """Let the tellers get the answers they wait for, then end them."""
        self.wait_until("every recharge is answered", self._all_answered)
        for name in self.teller_names:
            self.wanted.discard(name)
            self.supervisor.stop_one(name)
        if any(each.open_keys() for each in self.journals()):
            # A wish was written down in the last moment.
            self.ask("finish")

    def ask(self, what: str) -> None:
        """Let tellers `finish` what was never answered, or `repeat` everything they ever asked."""
        for name in self.teller_names:
            done = subprocess.run(
                self.teller_command(name, "--then", what),
                env=os.environ | self.environs[name],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise DrillStuck(
                    f"{what}: {name} ended with {done.returncode}: {done.stderr[-2000:]}"
                )

    def _all_answered(self) -> bool:
        """Whether at some instant each teller's oldest wish of a moment ago has its answer."""
        return all(len(each.open_keys()) <= 3 for each in self.journals())

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.owner_dsn, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class DrillStuck(Exception):
    """Something that must happen did not; the drill is over, and has found something."""


@contextlib.contextmanager
def world(
    folder: Path,
    *,
    report: Report,
    size: Size,
    tell: Callable[[str], None],
    line: Line | None = None,
    broker: BrokerKind | None = None,
    reroute: Callable[[Routes], Routes] = lambda direct: direct,
) -> Iterator[World]:
    """Make a world in an empty folder and end all of it afterwards; the folder is kept.

    It follows the report's seed, and leaves there what it is made of and what ended by itself.

    `reroute` may put something between the parties before any of them starts.
    """
    own_directory(folder)
    (folder / "journals").mkdir()
    postgres = EmbeddedPostgres(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.stop)
        owner_dsn = postgres.start()
        opened = _midnight(wiring.now() - _PAST)
        estate = _prepared(owner_dsn, folder, size, opened)
        supervisor = stack.enter_context(Supervisor(folder))
        command = prepare_broker(folder / "broker", kind=broker)
        if command.kind == "amqtt":
            tell(
                "Mosquitto is not installed: the pip broker, which keeps nothing for an absent head-end"
            )
        supervisor.start(BROKER, command.arguments, restart=False)
        wait_until_listening(command)
        address = (command.host, command.port)
        sockets = Path(str(conninfo_to_dict(owner_dsn)["host"]))
        routes = reroute(Routes(address, address, sockets, sockets, sockets))
        made = World(
            folder,
            report.seed,
            postgres,
            supervisor,
            owner_dsn,
            estate,
            Field(
                estate.places,
                opened_us=instant_us(opened),
                address=routes.field_to_broker,
                line=line or PlainLine(),
            ),
            [f"teller-{number + 1}" for number in range(size.tellers)],
            command.kind,
        )
        report.broker = made.broker_kind
        _start(made, routes, size)
        stack.callback(made.field.stop)
        try:
            yield made
        finally:
            report.ended_by_themselves = made.ended_by_themselves


def _prepared(owner_dsn: str, folder: Path, size: Size, opened: datetime) -> Estate:
    """The schema, and the property in it."""
    os.environ.update(
        PREWATT_DSN=owner_dsn, PREWATT_SECRET_KEY=secrets.token_hex(16), PREWATT_OUTBOX="1"
    )
    os.environ.pop("PREWATT_OPS", None)
    wiring.start_django("drill")
    from django.db import connection

    now = wiring.now()
    migrate(passwords=wiring.role_passwords(folder), today=now.date())
    places = places_of(behind=size.behind, live=size.live)
    estate = make_estate(places, opened_at=opened, now=now)
    connection.close()
    return estate


def _start(made: World, routes: Routes, size: Size) -> None:
    """Start head-end, worker and tellers, each under its own login; then the field."""

    def dsn(role: str, sockets: Path) -> dict[str, str]:
        return {"PREWATT_DSN": make_conninfo(made.postgres.dsn(role), host=str(sockets))}

    host, port = routes.head_end_to_broker
    made.environs = {
        HEAD_END: dsn("head_end", routes.head_end_to_database) | {"PREWATT_MQTT": f"{host}:{port}"},
        WORKER: dsn("clerk", routes.worker_to_database),
        **{name: dsn("web", routes.tellers_to_database) for name in made.teller_names},
    }
    commands: Mapping[str, list[str]] = {
        HEAD_END: prewatt_command("hes", "--shards", str(size.shards)),
        WORKER: prewatt_command("worker"),
        **{name: made.teller_command(name) for name in made.teller_names},
    }
    for name, command in commands.items():
        made.supervisor.start(name, command, made.environs[name], restart=False)
    made.wanted = {BROKER, *commands}
    made.supervisor.wait_ready(HEAD_END, timeout_s=_READY_S)
    made.field.start()
    for name in made.teller_names:
        made.supervisor.wait_ready(name, timeout_s=_READY_S)


def _midnight(moment: datetime) -> datetime:
    local = moment.astimezone(ZoneInfo(TIME_ZONE))
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def children_of(pid: int) -> list[int]:
    """The processes whose parent is `pid`, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def kill(pid: int) -> None:
    """SIGKILL, as the kernel itself would in need of memory; one that is gone is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


__all__ = ["ChildFailedError", "DrillStuck", "Size", "World", "children_of", "kill", "world"]
