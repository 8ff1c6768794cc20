"""Real load shapes as cumulative registers: how many Wh a unit has drawn up to any instant.

The packaged year is 2016 in quarter-hours (`data/ATTRIBUTION.md` names source and licence). Its first 364 days are
repeated for ever from Friday 1 January 2021 on, which keeps every weekday on its weekday and drifts by a day and a
quarter against the seasons each year. Within a quarter-hour energy rises linearly by whole seconds; the result is
floored, hence never falls.

Local days begin at a fixed offset from UTC: a simulated household knows no daylight saving.
"""

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from prewatt.core.bounds import OverflowRefused, magnitude

Int64 = NDArray[np.int64]

_QUARTER_S: Final = 900
_CYCLE_DAYS: Final = 364
_QUARTERS: Final = _CYCLE_DAYS * 96
_PPM: Final = 1_000_000
# Both days are Fridays: 1 January of 2016, where the data begin, and of 2021.
_EPOCH_S: Final = int(datetime(2021, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One load shape. `quarter_wh` has a cycle's quarter-hours, `before_wh` the sums before each of them.

    `utc_offset_s` is the local standard time's offset (east positive).
    """

    name: str
    quarter_wh: Int64
    before_wh: Int64
    utc_offset_s: int

    @property
    def cycle_wh(self) -> int:
        """Energy of one whole cycle of 364 days."""
        return int(self.before_wh[-1] + self.quarter_wh[-1])


def profile_names() -> list[str]:
    """The packaged shapes, e.g. `H0-A` (a household), `G1-B` (a shop), `G4-A` (an office)."""
    return list(_table()[0])


@cache
def load_profile(name: str, *, utc_offset_s: int = 0) -> Profile:
    """Return a packaged shape, shared; raises `KeyError` for a name that is not packaged."""
    names, table = _table()
    if name not in names:
        raise KeyError(f"no load shape {name!r}; there are {', '.join(names)}")
    quarter_wh = np.ascontiguousarray(table[:, names.index(name)])
    before_wh = np.cumsum(quarter_wh) - quarter_wh
    return Profile(name, quarter_wh, before_wh, utc_offset_s)


def scale_ppm_for(profile: Profile, annual_kwh: int) -> int:
    """The scale, in millionths, at which 365 days of the shape draw about `annual_kwh`."""
    return annual_kwh * 1000 * _CYCLE_DAYS * _PPM // (365 * profile.cycle_wh)


def cumulative_wh(profile: Profile, scale_ppm: int, instant_us: Int64) -> Int64:
    """Wh drawn from the start of 2021 (local) up to each instant, any shape; monotone in time.

    Instants are microseconds since 1970 UTC; before 2021 the result is negative. Raises
    `OverflowRefused` rather than wrap around.
    """
    local_s = instant_us // 1_000_000 + (profile.utc_offset_s - _EPOCH_S)
    quarter, second = np.divmod(local_s, _QUARTER_S)
    cycle, index = np.divmod(quarter, _QUARTERS)
    before = cycle * profile.cycle_wh + profile.before_wh[index]
    within = profile.quarter_wh[index] * second
    if max(magnitude(before), magnitude(within)) * scale_ppm > 2**62:
        raise OverflowRefused("simulated register")
    scaled = before * scale_ppm + (within * scale_ppm) // _QUARTER_S
    return np.asarray(scaled // _PPM, dtype=np.int64)


@cache
def _table() -> tuple[list[str], Int64]:
    packaged = resources.files("prewatt.sim") / "data" / "simbench-2016-15min-wh.csv.gz"
    lines = gzip.decompress(packaged.read_bytes()).decode("ascii").splitlines()
    names = lines[0].split(",")[1:]
    columns = range(1, len(names) + 1)
    table = np.loadtxt(
        lines[1 : _QUARTERS + 1], delimiter=",", dtype=np.int64, usecols=columns, ndmin=2
    )
    return names, table
