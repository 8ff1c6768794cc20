"""What a part of a simulated field writes down: what each meter took, what was acknowledged, what it was told to do.

A part is a process of simulated meters. While it runs it tells its counts in a small file, anew each second; at its end it
leaves its records, which whoever started it compares with the database. SIGUSR1 says that no more readings shall be
taken by the clock, so that everything that was taken can be acknowledged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from prewatt.hes.frames import AnswerResult, Command, RelayState
from prewatt.sim.meter import SimulatedMeter

COUNTS: Final = "counts.json"
RECORDS: Final = "records.json"
_COUNTS_S: Final = 1.0


class Told(msgspec.Struct, array_like=True):
    """Something a meter was told to do, and what it did: its own time (µs), the command's name if it has one."""

    at_us: int
    command: str
    op: str
    state: RelayState | None
    result: str


class MeterRecord(msgspec.Struct):
    """One meter. Rows are (instant by its own clock in µs, register in Wh); ``kept`` are those not known to be safe."""

    serial: str
    taken: list[tuple[int, int]] = []
    kept: list[tuple[int, int]] = []
    #: What was read of it by whoever asked, unasked for by its own clock: a head-end may have stored that, too.
    shown: list[tuple[int, int]] = []
    #: What left and was lost on the air for good, as of devices that keep nothing.
    lost: list[tuple[int, int]] = []
    told: list[Told] = []
    relay: RelayState = "closed"
    #: Every fault it had at some time.
    faults: list[str] = []
    #: Of one that verifies: the number and the name of the last instruction that it carried out, its lifetime credit, and how many
    #: messages it refused because nobody it trusts had signed them.
    instructed: tuple[int, str, int, int] | None = None
    #: It is out of reach now.
    is_out: bool = False

    def acknowledged(self) -> set[tuple[int, int]]:
        """What it was told is committed: all that it took and does not keep any more."""
        return set(self.taken) - set(self.kept)


class PartRecords(msgspec.Struct):
    """All that a part knows at its end; ``counts`` are of the radio and of whatever else it counts."""

    meters: list[MeterRecord]
    counts: dict[str, int] = {}


class Counts(msgspec.Struct):
    """How a part is doing: meters that are connected, readings taken and not yet known to be safe, things told."""

    meters: int = 0
    connected: int = 0
    taken: int = 0
    waiting: int = 0
    told: int = 0
    #: It takes no more readings by the clock.
    is_draining: bool = False


class Recorder:
    """Takes down what one meter does; its methods are what `SimulatedMeter` calls."""

    def __init__(self, serial: str) -> None:
        self.record = MeterRecord(serial)

    def reading(self, at_us: int, value_wh: int) -> None:
        """A reading was taken."""
        self.record.taken.append((at_us, value_wh))

    def command(self, at_us: int, command: Command, result: AnswerResult) -> None:
        """A command was carried out, or refused."""
        self.record.told.append(
            Told(at_us, command.command_id, command.op, command.state, str(result))
        )

    def fault(self, name: str, value: int) -> None:
        """A fault was switched."""
        if value and name not in self.record.faults:
            self.record.faults.append(name)


def read_counts(path: Path) -> Counts:
    """The counts of a part; all zero until it has written some."""
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(path.read_bytes(), type=Counts)
    return Counts()


def read_records(path: Path) -> PartRecords:
    """The records of a part that has ended. Raises FileNotFoundError where it left none."""
    return msgspec.json.decode(path.read_bytes(), type=PartRecords)


def as_instructed(meter: SimulatedMeter) -> tuple[int, str, int, int] | None:
    """What a meter that verifies keeps of its instructions, as its record has it."""
    if meter.config.private_key is None:
        return None
    kept = meter.instructed
    return kept.sequence, kept.answered.hex(), kept.credit_micro, kept.refused


class Notes:
    """What a part leaves in its folder: its counts anew each second, its records at the end; without a folder nothing."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._counting = Every(_COUNTS_S)

    def count(self, now_s: float, counts: Callable[[], Counts]) -> None:
        """Say how it is doing, where it is time."""
        if self._folder is not None and self._counting.is_due(now_s):
            _replace(self._folder / COUNTS, msgspec.json.encode(counts()))

    def leave(self, records: Callable[[], PartRecords]) -> None:
        """Leave the records; who reads never sees half of them."""
        if self._folder is not None:
            _replace(self._folder / RECORDS, msgspec.json.encode(records()))


class Every:
    """Says when something that happens every so often is due, by a clock that is handed in."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._at_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether it is time; the next time is then a period later."""
        if now_s < self._at_s:
            return False
        self._at_s = now_s + self._period_s
        return True


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)
