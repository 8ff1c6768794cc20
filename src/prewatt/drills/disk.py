"""`prewatt drill disk-full`: PostgreSQL's disk is filled to the last byte under load, and given back.

The disk is a small one in memory, mounted for the drill, so that nobody else's fills up. While it is full a
supervisor goes on trying to start the server, as it would in production.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import psycopg

from prewatt.drills.comparison import check_under_load
from prewatt.drills.report import Report
from prewatt.drills.world import World
from prewatt.runtime.embedded_postgres import PostgresError

DISK_MIB: Final = 640
#: Where `EmbeddedPostgres` keeps its data below the state directory.
_DATA: Final = "postgres"
_BALLAST: Final = "ballast"
_CHUNK: Final = b"\0" * 1_048_576


class CannotMount(Exception):
    """This user may not mount a disk; the message says what is needed."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of a few hundred MiB for the database; raises `CannotMount` where that is not allowed."""
    place = folder / _DATA
    place.mkdir(mode=0o755)
    if os.geteuid() != 0:
        raise CannotMount(
            "the drill mounts a small disk for PostgreSQL's data, which needs root; "
            "run it as root, on a machine or in a container that may mount a tmpfs"
        )
    done = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CannotMount(
            f"the drill mounts a small disk for PostgreSQL's data, and may not: {done.stderr.strip()}; "
            "run it as root, on a machine or in a container that may mount a tmpfs"
        )
    try:
        yield place
    finally:
        subprocess.run(["/bin/umount", "--lazy", place], check=False, capture_output=True)


def full_disks(
    made: World,
    disk: Path,
    report: Report,
    *,
    rounds: int,
    random: Random,
    tell: Callable[[str], None],
) -> None:
    """Fill it, let everybody try for a while, give the space back, and see that work goes on."""
    for number in range(1, rounds + 1):
        made.run_for(random.uniform(1.0, 2.0))
        written = _fill(disk)
        for _ in range(random.randint(2, 8)):
            made.run_for(0.5)
            _fill(disk)
            _try_to_start(made)
        before = _acknowledged(made)
        (disk / _BALLAST).unlink()
        tell(f"round {number} of {rounds}: {written // 1_048_576} MiB given back")
        made.start_postgres()
        _wait_for_more(made, before)
        report.rounds += 1
        check_under_load(made, report)
    report.done["times full"] = report.rounds


def _wait_for_more(made: World, before: int) -> None:
    made.wait_until("work goes on after the disk was full", lambda: _acknowledged(made) > before)


def _fill(disk: Path) -> int:
    """Write until nothing more fits, down to the last byte."""
    written, chunk = 0, _CHUNK
    with (disk / _BALLAST).open("ab", buffering=0) as ballast:
        while chunk:
            try:
                written += ballast.write(chunk)
            except OSError:
                chunk = chunk[: len(chunk) // 2]
    return written


def _try_to_start(made: World) -> None:
    """What a supervisor does with a server that has ended; with a full disk it cannot succeed."""
    if made.postgres.pid is None:
        with contextlib.suppress(PostgresError, OSError, psycopg.Error):
            made.postgres.start()


def _acknowledged(made: World) -> int:
    return sum(map(len, made.field.acknowledged().values()))
