"""Messages that nobody could read or place: counted each, kept in bounds, whoever sends how many.

A broker that takes any serial lets anybody invent them. What waits to be stored is a bounded number of
kinds with their counts, and the database keeps a bounded number of rows (``mdm/sql/0008_rejected.sql``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import connection, transaction

from prewatt.core.civil_time import utc_datetime
from prewatt.hes.frames import MalformedSample
from prewatt.telemetry.metrics import REJECTED_FRAMES

OTHERS: Final = "*"
"""The serial of the row that counts what has no row of its own."""
KINDS_MAX: Final = 1_000
_SERIAL_CHARS_MAX: Final = 32
_REASON_CHARS_MAX: Final = 200


@dataclass(slots=True)
class _Kind:
    """How often a serial was rejected for a reason, when (µs), and the last sample of it."""

    sample: bytes
    count: int
    first_us: int
    last_us: int


class RejectedBook:
    """What was rejected and is not stored yet: kinds beyond `KINDS_MAX` are counted as one.

    Added to by one thread and taken from by another.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._lock = threading.Lock()

    def add(self, samples: Iterable[MalformedSample]) -> None:
        """Count messages, each by its serial and reason."""
        with self._lock:
            for sample in samples:
                at_us = sample.received_at_us
                self._count(_name(sample), _Kind(sample.payload_head, 1, at_us, at_us))

    def store(self) -> None:
        """Store what has come; what cannot be stored now stays, and the failure is raised."""
        with self._lock:
            taken, self._kinds = self._kinds, {}
        if not taken:
            return
        try:
            _keep(taken)
        except BaseException:
            with self._lock:
                for name, kind in taken.items():
                    self._count(name, kind)
            raise
        REJECTED_FRAMES.inc(sum(each.count for each in taken.values()))

    def _count(self, name: tuple[str, str], more: _Kind) -> None:
        if name not in self._kinds and len(self._kinds) >= KINDS_MAX:
            name = (OTHERS, "others")
        kind = self._kinds.setdefault(name, _Kind(b"", 0, more.first_us, more.last_us))
        kind.count += more.count
        kind.first_us = min(kind.first_us, more.first_us)
        if more.last_us >= kind.last_us:
            kind.sample, kind.last_us = more.sample, more.last_us


def reject(samples: Sequence[MalformedSample]) -> None:
    """Count messages that nobody could read or place, and keep the last sample of each kind."""
    book = RejectedBook()
    book.add(samples)
    book.store()


def _name(sample: MalformedSample) -> tuple[str, str]:
    parts = sample.topic.split("/")
    serial = parts[1] if len(parts) > 1 else sample.topic
    serial, reason = serial.replace("\x00", ""), sample.reason.replace("\x00", "")
    return serial[:_SERIAL_CHARS_MAX], reason[:_REASON_CHARS_MAX]


def _keep(kinds: dict[tuple[str, str], _Kind]) -> None:
    each = kinds.values()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """SELECT keep_rejected(%s::text[], %s::text[], %s::bytea[], %s::bigint[],
                                    %s::timestamptz[], %s::timestamptz[])""",
            [
                [serial for serial, _ in kinds],
                [reason for _, reason in kinds],
                [kind.sample for kind in each],
                [kind.count for kind in each],
                [utc_datetime(kind.first_us) for kind in each],
                [utc_datetime(kind.last_us) for kind in each],
            ],
        )
