"""The course of a run: wait for the field, let it live, do what the scenario says when it says so, drain, account."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prewatt.drills.teller import Journal
from prewatt.runtime.state import CannotRunError
from prewatt.scenarios.account import Account, take_account
from prewatt.scenarios.parts import STOLEN
from prewatt.scenarios.scenario import Event
from prewatt.scenarios.world import BROKER, HEAD_END, NETWORK_SERVER, WORKER, World
from prewatt.sim.records import RECORDS, Counts, read_records

_LOOK_S: Final = 0.1
_SAY_S: Final = 5.0
_SETTLE_S: Final = 5.0
_OPEN_ORDERS: Final = """
SELECT (SELECT count(*) FROM supply_order WHERE state IN (1, 2, 3)),
       (SELECT count(*) FROM instruction WHERE state IN (1, 2))
"""
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Report:
    """What a run found. ``cpu_s`` is processor seconds by process over the measured time, ``moments`` what was seen when."""

    title: str
    seed: str
    broker: str
    tls: bool
    meters: int
    seconds: float = 0.0
    connected_s: float = 0.0
    #: From the broker's return until 99 in 100 of those who were connected before are so again.
    reconnected_s: float = 0.0
    #: Processor seconds that the broker took from its return until then.
    reconnected_broker_s: float = 0.0
    #: The same of the processes that simulate the meters.
    reconnected_field_s: float = 0.0
    drained_s: float = 0.0
    done: list[str] = field(default_factory=list)
    readings_per_second: float = 0.0
    orders_per_second: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    load_average: tuple[float, ...] = ()
    account: Account = field(default_factory=Account)

    @property
    def holds(self) -> bool:
        """Whether everything is accounted for."""
        return not self.account.broken

    def as_json(self) -> str:
        """One object."""
        return json.dumps(dataclasses.asdict(self) | {"holds": self.holds})


def run_course(
    made: World, *, tell: Callable[[str], None], status: Callable[[str], None]
) -> Report:
    """Run the scenario in its world and account for it."""
    scenario = made.scenario
    report = Report(scenario.title, made.seed, made.broker.kind, scenario.tls, scenario.count)
    _wait_for_field(made, report, status)
    made.open_till()
    before = processor_seconds(made)
    _live(made, report, tell, status)
    _drain(made, report, tell, status)
    report.cpu_s = {
        name: round(seconds - before.get(name, 0.0), 1)
        for name, seconds in processor_seconds(made).items()
    }
    report.seconds = round(made.now_s(), 1)
    report.load_average = tuple(round(each, 2) for each in os.getloadavg())
    for part in made.parts:
        made.take_down(part.name)
    tell("the field has ended; comparing")
    report.account = _settled_account(made)
    report.readings_per_second = round(report.account.readings_taken / scenario.duration_s, 1)
    report.orders_per_second = round(sum(report.account.orders.values()) / scenario.duration_s, 2)
    return report


# --- its parts -------------------------------------------------------------------------------------------


def _wait_for_field(made: World, report: Report, status: Callable[[str], None]) -> None:
    """Until the scenario's clock begins; whoever is not connected by then is late, and the run goes on."""
    say = _every(_SAY_S)
    began = time.monotonic()
    while made.now_s() < 0:
        _look_after(made)
        counts = made.counts()
        if 100 * counts.connected >= 99 * made.scenario.count and not report.connected_s:
            report.connected_s = round(time.monotonic() - began, 1)
        if next(say):
            status(_line(made, counts))
        time.sleep(_LOOK_S)


def _live(
    made: World, report: Report, tell: Callable[[str], None], status: Callable[[str], None]
) -> None:
    say, deeds = _every(_SAY_S), _deeds(made)
    before, back_s, field_s = 0, 0.0, 0.0
    while (now_s := made.now_s()) < made.scenario.duration_s:
        while deeds and deeds[0].at_s <= now_s:
            deed = deeds.pop(0)
            if deed.name == BROKER:
                before = before if deed.is_back else made.counts().connected
                back_s, field_s = (now_s, _field_seconds(made)) if deed.is_back else (0.0, 0.0)
            deed.do()
            report.done.append(f"{deed.at_s} s: {deed.what}")
            tell(report.done[-1])
        _look_after(made, down={each.name for each in deeds if each.is_back})
        counts = made.counts()
        # Counts are of a second ago at most: who has not noticed yet is not back.
        if now_s > back_s + 2 > 2 and 100 * counts.connected >= 99 * before:
            report.reconnected_s, back_s = round(now_s - back_s, 1), 0.0
            report.reconnected_broker_s = round(processor_seconds(made)[BROKER], 1)
            report.reconnected_field_s = round(_field_seconds(made) - field_s, 1)
        if next(say):
            status(_line(made, counts))
        time.sleep(_LOOK_S)
    for deed in deeds:
        # What would come back after the end comes back now: a field is not left in the dark.
        if deed.is_back:
            deed.do()


def _drain(
    made: World, report: Report, tell: Callable[[str], None], status: Callable[[str], None]
) -> None:
    """No more readings by the clock: until all that was taken is safe, and no order is under way, or time is up."""
    tell("no more readings and recharges; waiting until all is acknowledged")
    made.close_till()
    made.stop_reading()
    say, began = _every(_SAY_S), time.monotonic()
    with made.owner() as connection:
        while time.monotonic() - began < made.scenario.drain_s:
            _look_after(made)
            counts = made.counts()
            row = connection.execute(_OPEN_ORDERS).fetchone()
            assert row is not None
            if counts.is_draining and counts.waiting == 0 and not any(row):
                break
            if next(say):
                status(f"{_line(made, counts)}, {row[0]} orders and {row[1]} instructions open")
            time.sleep(2 * _LOOK_S)
    report.drained_s = round(time.monotonic() - began, 1)


def _settled_account(made: World) -> Account:
    """The account, once what LoRaWAN devices said last has had the time to reach the books."""
    parts = [read_records(part.folder / RECORDS) for part in made.parts]
    journal, began = Journal.read(made.journal), time.monotonic()
    with made.owner() as connection:
        while True:
            account = take_account(
                connection,
                meters=made.field.meters,
                parts=parts,
                journal=journal,
                opened_us=made.estate.opened_us,
                stolen=(STOLEN,) if made.scenario.attacks else (),
            )
            if not account.broken or time.monotonic() - began >= _SETTLE_S:
                return account
            time.sleep(2 * _LOOK_S)


# --- what happens ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Deed:
    """Something that is done to a process at a second of the run; ``is_back``: it is started again."""

    at_s: float
    name: str
    what: str
    do: Callable[[], None]
    is_back: bool = False


def _deeds(made: World) -> list[_Deed]:
    """What is done to the platform's processes. Outages of the field's own are in its schedules; they are only said."""
    deeds: list[_Deed] = []
    for event in made.scenario.events:
        names = _victims(made, event)
        if not names:
            end = f" for {event.for_s} s ({event.percent:g} % of {event.group})"
            deeds.append(_Deed(event.at_s, "", event.what + end, lambda: None))
        for name in names:
            deeds.append(_down(made, event, name))
            deeds.append(_up(made, event, name))
    return sorted(deeds, key=lambda each: each.at_s)


def _victims(made: World, event: Event) -> list[str]:
    if event.what == "head_end_restart":
        return [HEAD_END]
    if event.what in ("broker_restart", "broker_crash"):
        return [BROKER, *([NETWORK_SERVER] if made.addresses.network_server else [])]
    return []


def _down(made: World, event: Event, name: str) -> _Deed:
    is_crash = event.what == "broker_crash"
    word = "killed" if is_crash else "stopped in order"
    return _Deed(event.at_s, name, f"{name} is {word}", lambda: made.take_down(name, kill=is_crash))


def _up(made: World, event: Event, name: str) -> _Deed:
    return _Deed(
        event.at_s + event.for_s,
        name,
        f"{name} is back",
        lambda: made.bring_back(name),
        is_back=True,
    )


# --- looks -----------------------------------------------------------------------------------------------


def _look_after(made: World, down: Collection[str] = ()) -> None:
    """Raises CannotRunError when something has ended that nobody has stopped."""
    for name in (BROKER, HEAD_END, WORKER, *(part.name for part in made.parts)):
        if name not in down and made.supervisor.pid(name) is None:
            raise CannotRunError(f"{name} ended by itself; see {made.supervisor.log_path(name)}")


def _line(made: World, counts: Counts) -> str:
    return (
        f"{made.now_s():6.0f} s  {counts.connected:,} of {counts.meters:,} meters connected, "
        f"{counts.taken:,} readings taken, {counts.waiting:,} not yet safe, {counts.told:,} commands heard"
    )


def _every(period_s: float) -> Iterator[bool]:
    """True whenever so much time has passed since the last time."""
    at_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        if now_s >= at_s:
            at_s = now_s + period_s
            yield True
        else:
            yield False


def processor_seconds(made: World) -> dict[str, float]:
    """Processor seconds of each process so far, and of PostgreSQL's together; Linux alone."""
    names = [BROKER, NETWORK_SERVER, HEAD_END, WORKER, *(part.name for part in made.parts)]
    found: dict[str, float] = {}
    for name in names:
        try:
            pid = made.supervisor.pid(name)
        except KeyError:
            continue
        if pid is not None:
            found[name] = _of_process(pid)
    found["postgres"] = _of_postgres(made)
    return found


def _field_seconds(made: World) -> float:
    """Processor seconds of all who simulate meters so far."""
    seconds = processor_seconds(made)
    return sum(seconds.get(part.name, 0.0) for part in made.parts)


def _of_process(pid: int) -> float:
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def _of_postgres(made: World) -> float:
    """The postmaster, the children it has, and those that have ended."""
    from prewatt.drills.world import children_of

    pid = made.postgres_pid
    if pid is None:
        return 0.0
    with Path(f"/proc/{pid}/stat").open() as stat:
        fields: list[Any] = stat.read().rpartition(")")[2].split()
    own = sum(int(each) for each in fields[11:15]) / _TICK
    return own + sum(_of_process(child) for child in children_of(pid))
