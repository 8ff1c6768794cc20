"""`prewatt drill crash`: SIGKILL to a random victim at a random instant, under load, again and again.

| victim | what dies |
|---|---|
| `writer` | the PostgreSQL process that works for the head-end: the server throws everybody out and recovers by itself |
| `head-end` | `prewatt hes` |
| `worker` | `prewatt worker` |
| `postgres` | the postmaster, or it and all its processes: a start from the log |
| `broker` | the MQTT broker; what it kept since its last save is gone |
| `teller` | a teller in the middle of a sale |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import psycopg

from prewatt.drills.comparison import check_under_load
from prewatt.drills.report import Report
from prewatt.drills.world import BROKER, HEAD_END, WORKER, World, children_of, kill

VICTIMS: Final = ("writer", "head-end", "postgres", "broker", "teller", "worker")

_CHECK_EVERY: Final = 40


def crash_rounds(
    made: World,
    report: Report,
    *,
    rounds: int,
    victims: Sequence[str],
    random: Random,
    tell: Callable[[str], None],
    every_round: Callable[[int], None] = lambda _number: None,
) -> None:
    """So many crashes; the books are looked at every few dozen of them, while the load goes on."""
    began = time.monotonic()
    for number in range(1, rounds + 1):
        made.run_for(random.uniform(0.05, 0.6))
        every_round(number)
        victim = random.choice(list(victims))
        _KILL[victim](made, random)
        report.done[victim] = report.done.get(victim, 0) + 1
        report.rounds += 1
        if number % _CHECK_EVERY == 0:
            made.start_postgres()
            check_under_load(made, report)
            tell(
                f"round {number} of {rounds}, {time.monotonic() - began:.0f} s: "
                f"{report.recharges_acknowledged} recharges, {made.field.waiting()} readings wait, "
                f"{len(report.broken)} broken"
            )


def _kill_child(made: World, random: Random, name: str) -> None:
    made.supervisor.kill(name)
    time.sleep(random.uniform(0.0, 0.3))
    made.supervisor.start_again(name)


def _kill_head_end(made: World, random: Random) -> None:
    _kill_child(made, random, HEAD_END)
    _wait_or_not(made, random, HEAD_END)


def _kill_worker(made: World, random: Random) -> None:
    _kill_child(made, random, WORKER)


def _kill_teller(made: World, random: Random) -> None:
    name = random.choice(made.teller_names)
    _kill_child(made, random, name)
    _wait_or_not(made, random, name)


def _kill_broker(made: World, random: Random) -> None:
    _kill_child(made, random, BROKER)


def _wait_or_not(made: World, random: Random, name: str) -> None:
    """Now and then until it works again; else the next victim falls while it starts, or it does."""
    if random.random() < 0.5:
        made.wait_ready(name)


def _kill_postgres(made: World, random: Random) -> None:
    """The postmaster alone or with its children: then nobody of them can finish anything."""
    pid = made.postgres.pid
    with_children = random.random() < 0.5
    pause_s = random.uniform(0.0, 0.3)
    if pid is not None:
        children = children_of(pid) if with_children else []
        for each in (pid, *children):
            kill(each)
    time.sleep(pause_s)
    made.start_postgres()


def _kill_writer(made: World, random: Random) -> None:
    """One PostgreSQL process of the head-end's login, at work if there is one."""
    which = random.random()
    try:
        with made.owner() as connection:
            rows = connection.execute(
                """SELECT pid FROM pg_stat_activity WHERE usename = 'head_end'
                   ORDER BY xact_start IS NULL, pid"""
            ).fetchall()
            if rows:
                kill(int(rows[0 if which < 0.7 else -1][0]))
    except psycopg.OperationalError:
        # The server threw us out with everybody else.
        pass
    made.start_postgres()


_KILL: Final[dict[str, Callable[[World, Random], None]]] = {
    "writer": _kill_writer,
    "head-end": _kill_head_end,
    "postgres": _kill_postgres,
    "broker": _kill_broker,
    "teller": _kill_teller,
    "worker": _kill_worker,
}
