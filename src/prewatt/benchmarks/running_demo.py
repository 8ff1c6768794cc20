"""The demo that runs on a state directory, as a benchmark next to it needs it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from prewatt import wiring
from prewatt.runtime.broker import BrokerCommand, read_address, wait_until_listening
from prewatt.runtime.embedded_postgres import EmbeddedPostgres
from prewatt.runtime.state import CannotRunError, state_directory


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """Its facts (`demo.json`), its broker, and the way to its database as the owner of the tables."""

    facts: Mapping[str, Any]
    broker: BrokerCommand
    owner_dsn: str

    @property
    def property_id(self) -> int:
        """The demo's property."""
        return int(self.facts["property_id"])

    @property
    def story(self) -> frozenset[str]:
        """Serial numbers of the meters that the demo itself plays with."""
        return frozenset(str(fault[0]) for fault in self.facts["faults"])

    def switch(self, serials: Sequence[str], fault: str, value: int) -> None:
        """Switch a fault or load of simulated meters, as `prewatt sim fault` does."""
        from paho.mqtt import publish

        from prewatt.sim.process import fault_topic

        # Its client notes at level ERROR that it has hung up, which is what was asked of it.
        logging.getLogger("paho").setLevel(logging.CRITICAL)
        body = json.dumps({"name": fault, "value": value})
        publish.multiple(
            [(fault_topic(serial), body, 1, False) for serial in serials],
            hostname=self.broker.host,
            port=self.broker.port,
        )


def join(state_dir: Path | None) -> RunningDemo:
    """Set this process up beside a running demo: its clock, its database as the web's login.

    Raises CannotRunError if none runs there.
    """
    folder = state_directory() if state_dir is None else state_dir.absolute()
    try:
        facts = json.loads((folder / "demo.json").read_text())
        broker = read_address(folder)
        wait_until_listening(broker, timeout_s=0)
        server = EmbeddedPostgres(folder)
        dsn = server.dsn("web")
        psycopg.connect(dsn).close()
    except (OSError, RuntimeError, psycopg.OperationalError) as error:
        raise CannotRunError(
            f"no demo runs on {folder}; start one with ./run demo ({error})"
        ) from error
    os.environ.update(
        PREWATT_DSN=dsn, PREWATT_DEMO="1", PREWATT_SECRET_KEY=wiring.secret_key(folder)
    )
    os.environ[wiring.OFFSET_VARIABLE] = str(facts["clock_offset_us"])
    wiring._OFFSET = wiring.clock_offset()
    wiring.start_django()
    return RunningDemo(facts, broker, server.dsn())
