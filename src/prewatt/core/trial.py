"""Trying a draft tariff on real days: who pays more, by how much, and who would have been cut.

The arithmetic only. Rows are accounts, columns are local days; `billing.trials` reads what was
charged and credited, and rates the same energy under the draft. Everything is int64 micro-units.

Balances are looked at at the end of each local day. Within a day a balance may have dipped
further and been filled again; a trial does not pretend to know at what minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, magnitude

NEVER: Final = -1
"""In place of a day's position: this account would never have been cut."""

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """What happened, and what would have been charged; matrices [accounts, days] of micro-units.

    `charged` is what the days' energy and fixed parts cost, `drafted` the same under the draft,
    `credited` every other movement of the wallet (recharges, refunds; negative for what was taken
    out). `available` is each account's balance at the end of the last day, `emergency` how far
    below zero it may go. `first_day` is the position of the day on which money first arrived: an
    account that nobody has paid into yet is not cut, it has not begun.
    """

    charged: Int64
    drafted: Int64
    credited: Int64
    available: Int64
    emergency: Int64
    first_day: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One entry per account. `first_cut_day` is the position of the first day whose end the draft
    would have left beyond emergency credit, or NEVER; `was_cut` says whether it happened anyway
    under the present tariff. `would_be_cut` is the draft's doing alone.
    """

    charged: Int64
    drafted: Int64
    first_cut_day: Int64
    was_cut: Bool

    @property
    def difference(self) -> Int64:
        """What each account would have paid more; negative: less."""
        return self.drafted - self.charged

    @property
    def would_be_cut(self) -> Bool:
        """Accounts that the draft would have exhausted and the present tariff did not."""
        return np.asarray((self.first_cut_day != NEVER) & ~self.was_cut)


@dataclass(frozen=True, slots=True)
class Totals:
    """A property's trial in figures; shares and changes are left to those who show them."""

    accounts: int
    charged_micro: int
    drafted_micro: int
    pay_more: int
    pay_less: int
    unchanged: int
    would_be_cut: int


@dataclass(frozen=True, slots=True)
class Bin:
    """A column of the chart: accounts whose bill changes by [from_ppm, until_ppm) of what it was;
    None is open-ended. Accounts that paid nothing before stand in no bin.
    """

    from_ppm: int | None
    until_ppm: int | None
    accounts: int


_BIN_EDGES_PPM: Final = (-200_000, -100_000, -50_000, -10_000, 10_000, 50_000, 100_000, 200_000)


def compare(days: Days) -> Trial:
    """Both balances, walked back from the last day's end. Raises `OverflowRefused`."""
    shape = days.charged.shape
    if days.drafted.shape != shape or days.credited.shape != shape:
        raise ValueError("the matrices of a trial have one shape")
    most = sum(magnitude(each) for each in (days.charged, days.drafted, days.credited))
    if most * max(shape[1], 1) + magnitude(days.available) > INT64_MAX // 2:
        raise OverflowRefused("the balances of a trial")
    net = days.credited - days.charged
    later = net.sum(axis=1, keepdims=True) - np.cumsum(net, axis=1)
    actual = days.available[:, None] - later
    drafted = actual - np.cumsum(days.drafted - days.charged, axis=1)
    limit = -days.emergency[:, None]
    begun = np.arange(shape[1]) >= days.first_day[:, None]
    beyond = (drafted <= limit) & begun
    first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), NEVER).astype(np.int64)
    return Trial(
        charged=days.charged.sum(axis=1),
        drafted=days.drafted.sum(axis=1),
        first_cut_day=first,
        was_cut=((actual <= limit) & begun).any(axis=1),
    )


def totals(trial: Trial) -> Totals:
    """The property's figures."""
    difference = trial.difference
    return Totals(
        accounts=int(difference.size),
        charged_micro=int(trial.charged.sum()),
        drafted_micro=int(trial.drafted.sum()),
        pay_more=int((difference > 0).sum()),
        pay_less=int((difference < 0).sum()),
        unchanged=int((difference == 0).sum()),
        would_be_cut=int(trial.would_be_cut.sum()),
    )


def histogram(trial: Trial) -> tuple[Bin, ...]:
    """How many accounts change by how much, relative to what they paid."""
    paid = trial.charged > 0
    # A ratio for a chart: floats place a bar, they never price anything.
    change = trial.difference[paid] / trial.charged[paid] * 1_000_000
    position = np.searchsorted(np.array(_BIN_EDGES_PPM), change, side="right")
    counts = np.bincount(position, minlength=len(_BIN_EDGES_PPM) + 1).tolist()
    edges = (None, *_BIN_EDGES_PPM, None)
    return tuple(
        Bin(edges[index], edges[index + 1], int(count)) for index, count in enumerate(counts)
    )
