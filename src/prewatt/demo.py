"""`prewatt demo`: a whole property at work on this machine, and nothing outside it touched.

The first start makes the property and feeds 90 days of its life through the real ingest path; later
starts go on where the last one stopped. PostgreSQL, the broker, the head-end, the worker, the web
and the simulated meters are processes of their own, as in production; all listen on loopback only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prewatt import wiring
from prewatt.runtime.broker import prepare_broker, wait_until_listening, write_address
from prewatt.runtime.embedded_postgres import EmbeddedPostgres
from prewatt.runtime.progress_page import Progress, ProgressPage
from prewatt.runtime.state import CannotRunError, own_directory, secret_text, state_directory
from prewatt.runtime.supervisor import Supervisor, prewatt_command

PORT = 8600
UNITS = 240
DAYS = 90
FEEDERS = 2
SIM_PROCESSES = 2
REPORT_PERIOD_S = 15
#: The demo's working day begins here (local time), well inside the permitted window.
START_HOUR, START_MINUTE = 10, 12
_READY_TIMEOUT_S = 90.0
_SIGN_INS = (
    ("admin@fernmoor.example", "Ines Halvard", "administrator"),
    ("desk@fernmoor.example", "Tomas Reyl", "operator"),
    ("auditor@fernmoor.example", "Nadia Brandt", "auditor"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options."""
    parser.add_argument("--port", type=int, default=PORT, help=f"web port (default: {PORT})")
    parser.add_argument("--state-dir", type=Path, help="where data are kept")
    parser.add_argument("--reset", action="store_true", help="forget everything and start afresh")
    parser.add_argument("--units", type=int, default=UNITS, help=f"default: {UNITS}")
    parser.add_argument("--days", type=int, default=DAYS, help=f"days of history (default: {DAYS})")
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
        if self.arguments.reset:
            postgres.reset()
            (self.state_dir / "demo.json").unlink(missing_ok=True)
        owner = postgres.start()
        try:
            self._set_up(owner)
            with Supervisor(self.state_dir) as supervisor:
                self._start(supervisor, postgres)
                self._announce(time.monotonic() - began)
                if not self.arguments.until_ready:
                    supervisor.run(self._remember, tick_s=2.0)
                self._remember()
        finally:
            postgres.stop()
        print("Stopped. Everything is kept; ./run demo goes on from here.")
        return 0

    @property
    def _file(self) -> Path:
        return self.state_dir / "demo.json"

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _remember(self) -> None:
        """Keep the demo's present, so that its time goes on from here after a restart."""
        facts = self._facts() | {"last_us": int(wiring.now().timestamp() * 1e6)}
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(facts))
        draft.replace(self._file)

    def _set_up(self, owner: str) -> None:
        """Choose the demo's clock, start Django as owner, and make the property once."""
        facts = self._facts()
        last = facts.get("last_us")
        begins = demo_start(
            None if last is None else datetime.fromtimestamp(last / 1e6, UTC), datetime.now(UTC)
        )
        offset = begins - datetime.now(UTC)
        os.environ[wiring.OFFSET_VARIABLE] = str(round(offset.total_seconds() * 1e6))
        wiring._OFFSET = wiring.clock_offset()
        os.environ.update(
            PREWATT_DSN=owner,
            PREWATT_DEMO="1",
            PREWATT_OUTBOX="1",
            PREWATT_SECRET_KEY=wiring.secret_key(self.state_dir),
        )
        wiring.start_django()
        from prewatt.migrate import migrate

        migrate(passwords=wiring.role_passwords(self.state_dir), today=wiring.now().date())
        if "property_id" not in facts:
            from prewatt.sim.onboarding import make_property

            self.progress.step("property")
            for name in ("meters", "broker"):
                # What older meters counted, and what a broker kept for them, belongs to no one now.
                shutil.rmtree(self.state_dir / name, ignore_errors=True)
            facts = make_property(
                units=self.arguments.units,
                days=self.arguments.days,
                now=wiring.now(),
                sign_ins=[(*each, self._password(each[2])) for each in _SIGN_INS],
            )
            self._feed(facts, owner)
            self._file.write_text(json.dumps(facts))
            self._remember()
        from django.db import connection

        connection.close()

    def _password(self, duty: str) -> str:
        return secret_text(
            self.state_dir / "secrets" / "demo" / duty, lambda: f"{duty}-{secrets.token_hex(4)}"
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

    def _start(self, supervisor: Supervisor, postgres: EmbeddedPostgres) -> None:
        facts = self._facts()
        broker = prepare_broker(self.state_dir / "broker")
        supervisor.start("broker", broker.arguments)
        wait_until_listening(broker)
        write_address(self.state_dir, broker)
        self.progress.step("meters")
        mqtt = f"{broker.host}:{broker.port}"
        supervisor.start(
            "hes",
            prewatt_command("hes"),
            {"PREWATT_DSN": postgres.dsn("head_end"), "PREWATT_MQTT": mqtt},
        )
        for name, config in self._meter_configs(facts, broker.host, broker.port):
            supervisor.start(name, prewatt_command("sim", "meters", "--config", str(config)))
        supervisor.start(
            "worker", prewatt_command("worker"), {"PREWATT_DSN": postgres.dsn("clerk")}
        )
        self._switch_faults(facts, mqtt)
        self._await_meters(supervisor, facts)
        self.progress.step("web")
        self.page.close()
        supervisor.start(
            "web",
            prewatt_command("web", "--port", str(self.arguments.port)),
            {"PREWATT_DSN": postgres.dsn("web")},
        )
        supervisor.wait_for("web", self._web_answers, timeout_s=30)

    def _meter_configs(
        self, facts: Mapping[str, Any], host: str, port: int
    ) -> list[tuple[str, Path]]:
        """Write one configuration per simulator process."""
        from prewatt.sim.property import UTC_OFFSET_S

        configs = []
        folder = self.state_dir / "meters"
        folder.mkdir(exist_ok=True)
        for number in range(SIM_PROCESSES):
            path = folder / f"meters-{number}.json"
            path.write_text(
                json.dumps(
                    {
                        "name": f"demo-{number}",
                        "host": host,
                        "port": port,
                        "state_file": str(folder / f"state-{number}.json"),
                        "clock_offset_us": int(os.environ[wiring.OFFSET_VARIABLE]),
                        "utc_offset_s": UTC_OFFSET_S,
                        "report_period_s": REPORT_PERIOD_S,
                        "meters": facts["meters"][number::SIM_PROCESSES],
                    }
                )
            )
            configs.append((f"meters-{number}", path))
        return configs

    def _switch_faults(self, facts: Mapping[str, Any], mqtt: str) -> None:
        """What makes the demo worth watching: a heater here, an open cover there, silent meters."""
        from paho.mqtt import publish

        from prewatt.sim.process import fault_topic

        # Its client notes at level ERROR that it has hung up, which is what was asked of it.
        logging.getLogger("paho").setLevel(logging.CRITICAL)
        host, _, port = mqtt.rpartition(":")
        publish.multiple(
            [
                # Retained, because a meter may connect later than this.
                (fault_topic(serial), json.dumps({"name": name, "value": value}), 1, True)
                for serial, name, value in facts["faults"]
            ],
            hostname=host,
            port=int(port),
        )

    def _await_meters(self, supervisor: Supervisor, facts: Mapping[str, Any]) -> None:
        """Until every meter that should speak has said hello."""
        from prewatt.sim.onboarding import meters_heard_since

        since = wiring.now() - timedelta(minutes=1)
        total = len(facts["meters"]) - sum(1 for each in facts["faults"] if each[1] == "outage")

        def all_live() -> bool:
            heard = meters_heard_since(since)
            self.progress.step("meters", done=min(heard, total), total=total)
            return heard >= total

        supervisor.wait_for("hes", all_live, timeout_s=_READY_TIMEOUT_S)

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
        for email, name, duty in _SIGN_INS:
            print(f"  {duty:<14} {email:<26} {self._password(duty):<26} {name}")
        print(
            "\nWatch N-101: a warning, then the cut. Recharge it, and the relay closes. Ctrl-C stops."
        )
        sys.stdout.flush()


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
        if works(local) and 9 <= local.hour < 14:
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
