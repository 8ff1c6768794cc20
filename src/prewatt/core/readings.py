"""A batch of register readings as columns, and the coded words for where a reading came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64

ACTIVE_IMPORT = 1
"""Register code of OBIS 1.8.0: the register that is rated and charged."""

REVERSED_SEGMENT = 10_000
"""A reversing segment's number is the reversed segment's plus this."""


class ReadingSource(IntEnum):
    """Who says so; stored as ``smallint``, never renumbered."""

    METER = 1
    MANUAL = 2
    IMPORT = 3


class Quality(IntEnum):
    """How well an interval or a reading is known; stored as ``smallint``, never renumbered."""

    MEASURED = 1
    #: The register is measured, but its spread over time is an estimate across a gap.
    ESTIMATED = 2
    #: Takes back a superseded segment.
    REVERSED = 3
    #: A person put the reading right, or a reading at one of the interval's ends.
    EDITED = 4
    #: A reading that should never have been: its last revision, which stands at no interval's end.
    WITHDRAWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class ReadingBatch:
    """Columns of one length n, in order of arrival; instants in µs UTC.

    Values are register Wh, and in registers that are not rated their own unit (varh, W).
    """

    meter_id: Int64
    register_code: Int64
    read_at_us: Int64
    value_wh: Int64
    source: Int64
    received_at_us: Int64

    def __len__(self) -> int:
        return int(self.meter_id.size)

    def take(self, rows: npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]) -> ReadingBatch:
        """Some of the rows: by number in the order given, or those that a mask marks."""
        return ReadingBatch(
            meter_id=self.meter_id[rows],
            register_code=self.register_code[rows],
            read_at_us=self.read_at_us[rows],
            value_wh=self.value_wh[rows],
            source=self.source[rows],
            received_at_us=self.received_at_us[rows],
        )

    @classmethod
    def of(
        cls,
        *,
        meter_id: Int64,
        read_at_us: Int64,
        value_wh: Int64,
        received_at_us: int,
        source: ReadingSource = ReadingSource.METER,
    ) -> ReadingBatch:
        """A batch of active import readings that all came the same way at the same time."""
        size = meter_id.size
        return cls(
            meter_id=meter_id,
            register_code=np.full(size, ACTIVE_IMPORT, dtype=np.int64),
            read_at_us=read_at_us,
            value_wh=value_wh,
            source=np.full(size, int(source), dtype=np.int64),
            received_at_us=np.full(size, received_at_us, dtype=np.int64),
        )
