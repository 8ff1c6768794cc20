"""`prewatt demo`: a whole property at work on this machine, and nothing outside it touched.

The first start makes the property and feeds 90 days of its life through the real ingest path; later
starts go on where the last one stopped. PostgreSQL, the broker, the head-end, the worker, the web
and the simulated meters are processes of their own, as in production; all listen on loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from prewatt import walls, wiring
from prewatt.demo_certificates import DemoCertificates, refuse_without_mosquitto
from prewatt.demo_field import REPORT_PERIOD_S, Brokers, DemoField
from prewatt.migrate import is_stamped, leave_stamp, migrate, stamp_of
from prewatt.runtime.broker import (
    BrokerCommand,
    prepare_broker,
    wait_until_listening,
    write_address,
)
from prewatt.runtime.embedded_postgres import EmbeddedPostgres
from prewatt.runtime.progress_page import Progress, ProgressPage
from prewatt.runtime.state import CannotRunError, own_directory, secret_text, state_directory
from prewatt.runtime.supervisor import Supervisor, prewatt_command

PORT = 8600
UNITS = 240
DAYS = 90
FEEDERS = 2
#: The demo's working day begins here (local time), well inside the permitted window.
START_HOUR, START_MINUTE = 10, 12
#: A demo that stopped before this hour goes on with the same day.
END_HOUR = 14
_READY_TIMEOUT_S = 90.0
#: In the demo's facts while its property is being made.
_MAKING = "making"
_REMEMBER_EVERY = timedelta(seconds=2)
#: What older meters counted, a broker kept for them or a letter said belongs to no one now, and so do their keys.
_OF_ONE_PROPERTY = (
    "meters", "broker", "broker-tls", "letters", "secrets/meters", "secrets/lwm2m", "secrets/devices",
    "secrets/device-root",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIGN_INS = (
    ("admin@fernmoor.example", "Ines Halvard", "administrator"),
    ("second@fernmoor.example", "Jonas Weir", "administrator"),
    ("desk@fernmoor.example", "Tomas Reyl", "operator"),
    ("auditor@fernmoor.example", "Nadia Brandt", "auditor"),
    ("fitter@fernmoor.example", "Emil Keller", "installer"),
    ("owner@fernmoor.example", "Klara Sommer", "owner"),
    ("tenant@fernmoor.example", "A tenant", "tenant"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options."""
    parser.add_argument("--port", type=int, default=PORT, help=f"web port (default: {PORT})")
    parser.add_argument("--state-dir", type=Path, help="where data are kept")
    parser.add_argument("--reset", action="store_true", help="forget everything and start afresh")
    parser.add_argument("--units", type=int, default=UNITS, help=f"default: {UNITS}")
    parser.add_argument("--days", type=int, default=DAYS, help=f"days of history (default: {DAYS})")
    parser.add_argument(
        "--broker",
        choices=("mosquitto", "amqtt"),
        help="default: Mosquitto where it is installed, else amqtt, which comes along",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="let meters in by certificates alone, TLS 1.3: needs Mosquitto",
    )
    parser.add_argument(
        "--brake-cuts",
        type=int,
        metavar="N",
        help="let the mass-cut brake pass N cuts in 15 minutes, for a measurement (default: 12)",
    )
    parser.add_argument(
        "--next-day",
        action="store_true",
        help="go on at the next working day, in which what was approved for it holds",
    )
    parser.add_argument(
        "--until-ready", action="store_true", help="stop as soon as everything runs (for tests)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prepare, run until interrupted, stop cleanly; returns the exit status."""
    if os.environ.get("PREWATT_DSN"):
        raise CannotRunError(
            "PREWATT_DSN is set, so this looks like production; the demo would write invented "
            "people into it. Unset it to run the demo on its own database."
        )
    if arguments.tls:
        refuse_without_mosquitto(arguments.broker)
    state_dir = (
        state_directory()
        if arguments.state_dir is None
        else own_directory(arguments.state_dir.absolute())
    )
    os.environ["PREWATT_STATE_DIR"] = str(state_dir)
    began = time.monotonic()
    progress = Progress(state_dir)
    try:
        page = ProgressPage.adopt(os.environ, arguments.port, state_dir)
    except OSError as error:
        raise CannotRunError(
            f"port {arguments.port} of 127.0.0.1 is taken ({error.strerror}); "
            "stop what listens there or choose another with --port"
        ) from error
    demo = _Demo(state_dir, arguments, progress, page)
    try:
        return demo.run(began)
    except Exception as error:
        progress.failed(str(error))
        raise


@dataclass(slots=True)
class _Demo:
    state_dir: Path
    arguments: argparse.Namespace
    progress: Progress
    page: ProgressPage

    def run(self, began: float) -> int:
        self.progress.step("postgres")
        postgres = EmbeddedPostgres(self.state_dir)
        if self.arguments.reset or _MAKING in self._facts():
            # A first start that was interrupted left half a property, which nothing can go on with.
            postgres.reset()
            self._file.unlink(missing_ok=True)
        with ExitStack() as stack:
            stack.callback(postgres.stop)
            supervisor = stack.enter_context(Supervisor(self.state_dir))
            if "property_id" not in self._facts():
                for name in _OF_ONE_PROPERTY:
                    shutil.rmtree(self.state_dir / name, ignore_errors=True)
            server = prepare_broker(self.state_dir / "broker", kind=self.arguments.broker)
            supervisor.start("network-server" if self.arguments.tls else "broker", server.arguments)
            owner = postgres.start()
            self._set_up(owner)
            brokers = Brokers(server, server)
            if self.arguments.tls:
                brokers = self._guarded(server)
                supervisor.start("broker", brokers.meters.arguments)
            self._start(supervisor, postgres, brokers)
            self._announce(time.monotonic() - began)
            if not self.arguments.until_ready:
                supervisor.run(self._remember, tick_s=_REMEMBER_EVERY.total_seconds())
            supervisor.stop()
            self._remember(stopped=True)
        print("Stopped. Everything is kept; ./run demo goes on from here.")
        return 0

    @property
    def _file(self) -> Path:
        return self.state_dir / "demo.json"

    @property
    def _commands(self) -> Path:
        return self.state_dir / "secrets" / "commands.env"

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _remember(self, *, stopped: bool = False) -> None:
        """Keep the demo's present, so that its time goes on from here after a restart.

        Its clock never goes back: what is kept while it runs lies ahead of all that may happen
        before the next time, should it be killed meanwhile.
        """
        ahead = timedelta(0) if stopped else 2 * _REMEMBER_EVERY
        self._write(self._facts() | {"last_us": _us(wiring.now() + ahead)})

    def _write(self, facts: Mapping[str, Any]) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(facts))
        draft.replace(self._file)

    def _set_up(self, owner: str) -> None:
        """Choose the demo's clock and bring the database up to date; make the property once."""
        facts = self._facts()
        self._set_clock(facts)
        os.environ.update(
            PREWATT_DSN=owner,
            PREWATT_DEMO="1",
            PREWATT_OUTBOX="1",
            PREWATT_OUTBOX_FOLDER=str(self.state_dir / "letters"),
            PREWATT_ADDRESS=f"http://127.0.0.1:{self.arguments.port}",
            PREWATT_SECRET_KEY=wiring.secret_key(self.state_dir),
            PREWATT_FACTOR_KEYS=wiring.factor_key(self.state_dir),
        )
        passwords, today = wiring.role_passwords(self.state_dir), wiring.now().date()
        stamp = stamp_of(passwords=passwords, today=today)
        with psycopg.connect(owner, autocommit=True) as connection:
            if not is_stamped(connection, stamp):
                wiring.start_django()
                migrate(passwords=passwords, today=today)
                leave_stamp(connection, stamp)
            # A demo that was used on many days is some days before real time, further at each start.
            walls.let_clock_run_ahead(
                connection.cursor(), timedelta(microseconds=facts["clock_offset_us"])
            )
        if "property_id" not in facts:
            self._make_property(facts, owner)
        self._set_brake()

    def _set_clock(self, facts: dict[str, Any]) -> None:
        """Let this process and its children live at the demo's time, and remember how far off it is."""
        real, last_us = datetime.now(UTC), facts.get("last_us")
        next_day = self.arguments.next_day
        if last_us is not None and last_us < facts.get("day_ends_us", 0) and not next_day:
            begins = _moment(last_us)
        else:
            # Only here is a calendar needed, which takes its time to load.
            last = None if last_us is None else _moment(last_us)
            if last is not None and next_day:
                last = max(last, day_end(last))
            begins = demo_start(last, real)
            facts["day_ends_us"] = _us(day_end(begins))
        facts["clock_offset_us"] = _us(begins) - _us(real)
        os.environ[wiring.OFFSET_VARIABLE] = str(facts["clock_offset_us"])
        wiring._OFFSET = wiring.clock_offset()
        self._write(facts)

    def _make_property(self, clock: Mapping[str, Any], owner: str) -> None:
        """Make the property as it stood at the beginning of its history, and feed that."""
        wiring.start_django()
        from django.db import connection

        from prewatt.sim.onboarding import make_property

        self.progress.step("property")
        self._write({**clock, _MAKING: True})
        facts = make_property(
            units=self.arguments.units,
            days=self.arguments.days,
            now=wiring.now(),
            sign_ins=[(*each, self._password(each[0])) for each in SIGN_INS],
        )
        self._feed(facts, owner)
        DemoField(self.state_dir, facts | dict(clock)).make_keys()
        self._write({**clock, **facts})
        connection.close()

    def _guarded(self, server: BrokerCommand) -> Brokers:
        """A broker for meters with certificates; the network server keeps one of its own, as it has in the field."""
        from django.db import connection

        self.progress.step("meters")
        wiring.start_django()
        facts = self._facts()
        certificates = DemoCertificates(
            self.state_dir,
            property_code=facts["property"],
            now=min(wiring.now(), datetime.now(UTC)),
        )
        certificates.enrol(facts["property_id"], DemoField(self.state_dir, facts).on_mqtt)
        broker = certificates.broker()
        connection.close()
        return Brokers(broker, server, certificates)

    def _set_brake(self) -> None:
        """Set the mass-cut brake as this start asks; without the option it is the usual one again."""
        facts, cuts = self._facts(), self.arguments.brake_cuts
        if facts.get("brake_cuts") == cuts:
            return
        wiring.start_django()
        from django.db import connection

        from prewatt.access.scope import system_actor
        from prewatt.sim.onboarding import POLICY
        from prewatt.supply.operations import set_policy

        brake = {} if cuts is None else {"brake": {"cuts_max": cuts, "share_bp": 10_000}}
        place = facts["property_id"]
        set_policy(
            actor=system_actor("demo", (place,)),
            property_id=place,
            body=POLICY | brake,
            now=wiring.now(),
        )
        connection.close()
        self._write(facts | {"brake_cuts": cuts})

    def _password(self, email: str) -> str:
        who = email.partition("@")[0]
        return secret_text(
            self.state_dir / "secrets" / "demo" / who, lambda: f"{who}-{secrets.token_hex(4)}"
        )

    def _feed(self, facts: Mapping[str, Any], owner: str) -> None:
        """Feed the history in processes of their own, each its share of the accounts."""
        plan = self.state_dir / "history.json"
        plan.write_text(json.dumps(facts))
        days = int(facts["days"])
        self.progress.step("history", done=0, total=days)
        began = time.monotonic()
        feeders = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "prewatt.feeder", str(plan), str(n), str(FEEDERS)],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PREWATT_DSN": owner},
            )
            for n in range(FEEDERS)
        ]
        assert feeders[0].stdout is not None
        for line in feeders[0].stdout:
            if line.startswith("day "):
                self.progress.step("history", done=min(days, int(line.split()[1])), total=days)
        for feeder in feeders:
            feeder.communicate()
            if feeder.returncode != 0:
                raise CannotRunError("the history could not be fed; see the output above")
        from prewatt.sim.onboarding import count_readings

        seconds = time.monotonic() - began
        print(f"History: {count_readings():,} readings fed, rated and posted in {seconds:.1f} s.")

    def _start(self, supervisor: Supervisor, postgres: EmbeddedPostgres, brokers: Brokers) -> None:
        """Start the processes, each as early as what it needs is there, until everything is live."""
        facts, since = self._facts(), wiring.now()
        field = DemoField(self.state_dir, facts)
        for each in (brokers.network_server, brokers.meters):
            wait_until_listening(each)
        write_address(self.state_dir, brokers.meters)
        environ = field.environ(brokers)
        supervisor.start(
            "hes", prewatt_command("hes"), environ | {"PREWATT_DSN": postgres.dsn("head_end")}
        )
        offset = {wiring.OFFSET_VARIABLE: os.environ[wiring.OFFSET_VARIABLE]}
        write_commands_file(self._commands, environ | offset | {"PREWATT_DSN": postgres.dsn()})
        # It gets ready while the progress page still has the port.
        port, patience = str(self.arguments.port), f"{_READY_TIMEOUT_S:g}"
        supervisor.start(
            "web",
            prewatt_command("web", "--port", port, "--wait-for-port", patience),
            {"PREWATT_DSN": postgres.dsn("web"), **wiring.signing_keys(self.state_dir)},
        )
        self.progress.step("meters")
        parts = field.prepare(brokers)
        # A broker that keeps nothing would lose what meters say before the head-end listens.
        supervisor.wait_ready("hes", timeout_s=_READY_TIMEOUT_S)
        for part in parts:
            supervisor.start(part.name, part.command)
        outages = sum(1 for each in facts["faults"] if each[1] == "outage")
        self._await_meters(supervisor, field.size - outages, since, postgres.dsn())
        supervisor.start(
            "worker", prewatt_command("worker"), {"PREWATT_DSN": postgres.dsn("clerk")}
        )
        self.progress.step("web")
        supervisor.wait_ready("web", timeout_s=_READY_TIMEOUT_S)
        self.page.close()
        supervisor.wait_for("web", self._web_answers, timeout_s=30)

    def _await_meters(
        self, supervisor: Supervisor, total: int, since: datetime, owner: str
    ) -> None:
        """Until every meter that should speak has been heard since this start.

        One that a visitor has silenced stays silent over a restart, so when no more meters come in
        for longer than any of them waits between two reports, the demo goes on without the rest.
        """
        heard, news_at = 0, time.monotonic()
        with psycopg.connect(owner, autocommit=True) as connection:

            def are_live() -> bool:
                nonlocal heard, news_at
                before, heard = heard, _meters_heard(connection, since)
                now = time.monotonic()
                if heard != before:
                    news_at = now
                    self.progress.step("meters", done=min(heard, total), total=total)
                return heard >= total or (heard > 0 and now - news_at > 2 * REPORT_PERIOD_S)

            supervisor.wait_for("hes", are_live, timeout_s=_READY_TIMEOUT_S)
        if heard < total:
            print(f"{total - heard} meters do not answer.")

    def _web_answers(self) -> bool:
        import urllib.error
        import urllib.request

        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.arguments.port}/healthz", timeout=1)
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _announce(self, seconds: float) -> None:
        print(
            f"\nPrewatt's demo is ready after {seconds:.1f} s. It is a demonstration: people, meters"
        )
        print(
            "and money are invented, messages stay in its outbox, and it listens on loopback only.\n"
        )
        print(f"  http://127.0.0.1:{self.arguments.port}/\n")
        for email, name, duty in SIGN_INS:
            print(f"  {duty:<14} {email:<26} {self._password(email):<26} {name}")
        if self.arguments.tls:
            print("\nMeters on MQTT show certificates: TLS 1.3, and a topic of its own for each.")
        if self.arguments.brake_cuts is not None:
            print(f"\nThe mass-cut brake is set to {self.arguments.brake_cuts} cuts in 15 minutes.")
        print(
            "\nWatch N-101: a warning, then the cut. Recharge it, and the relay closes. Ctrl-C stops."
        )
        print(
            f"Other commands look at it after: set -a; . {shlex.quote(str(self._commands))}; set +a"
        )
        sys.stdout.flush()


def write_commands_file(path: Path, environ: Mapping[str, str]) -> None:
    """Write what a shell reads (`. FILE`) before commands that are to see this demo; its owner's alone, as it has secrets."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(environ.items())]
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(lines)
    draft.replace(path)


# As `core.civil_time` has them, without the numpy that no second start needs in this process.
def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _meters_heard(connection: psycopg.Connection, since: datetime) -> int:
    row = connection.execute(
        "SELECT count(*) FROM meter_link WHERE last_seen_at >= %s", [since]
    ).fetchone()
    assert row is not None
    return int(row[0])


def day_end(begins: datetime) -> datetime:
    """Until when a day that began at `begins` may go on after a stop: an hour before its cuts end."""
    from prewatt.sim.property import TIME_ZONE

    local = begins.astimezone(ZoneInfo(TIME_ZONE))
    return local.replace(hour=END_HOUR, minute=0, second=0, microsecond=0).astimezone(UTC)


def demo_start(last: datetime | None, real: datetime) -> datetime:
    """When the demo's clock starts: where it stopped, or else on a working day inside the window.

    Cuts are permitted on working days from 09:00 to 15:00 local, so the clock starts at 10:12 of
    the latest working day that has come; a demo that stopped outside the window goes on at the
    next working day's 10:12, never backwards.
    """
    from prewatt.estate.calendars import holiday_dates
    from prewatt.sim.property import HOLIDAYS, TIME_ZONE

    zone = ZoneInfo(TIME_ZONE)
    rest = holiday_dates(HOLIDAYS, real.year - 1, real.year + 1)

    def works(moment: datetime) -> bool:
        return moment.weekday() < 5 and moment.date() not in rest

    if last is not None:
        local = last.astimezone(zone)
        if works(local) and 9 <= local.hour < END_HOUR:
            return last
        step, local = timedelta(days=1), local if local.hour < 9 else local + timedelta(days=1)
    else:
        step, local = timedelta(days=-1), real.astimezone(zone)
        if local.hour < START_HOUR + 1:
            local -= timedelta(days=1)
    while not works(local):
        local += step
    return local.replace(hour=START_HOUR, minute=START_MINUTE, second=0, microsecond=0).astimezone(
        UTC
    )
