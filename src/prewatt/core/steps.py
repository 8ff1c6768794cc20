"""How usage is counted: the rules of steps and free energy, laid over time as arrays.

A *count* runs up the Wh of a window in the order of time. Usage equal to a limit still lies in the
lower step, and energy that crosses a limit is divided exactly there.

Counts by a tariff's kind and scope (`CountKind`): one count over all bands, or one per band, each
with limits of its own. A whole-usage tariff keeps a count per band under either scope, because
reaching a step reprices what each band has used in the window. Energy at an announced price that
knows no steps has a count of its own after the bands' there, so that no step reprices it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, checked_multiply
from prewatt.core.civil_time import DAY_US, LocalCalendar
from prewatt.core.tariff.model import (
    Allowance,
    OverlayKind,
    Scale,
    StepKind,
    Steps,
    StepScope,
    Tariff,
    Window,
)
from prewatt.core.tariff.tables import band_table
from prewatt.core.windows import grid_position, windows_of

NO_LIMIT: Final = INT64_MAX
PURCHASE_KEY: Final = -1
"""Stands for a window that is named by the account's number of purchases."""

_W_PER_KW: Final = 1000


class CountKind(IntEnum):
    """How a stretch of a timeline counts towards steps."""

    NONE = 0
    GRADUATED_ALL = 1
    GRADUATED_EACH = 2
    WHOLE_ALL = 3
    WHOLE_EACH = 4


class LimitScale(IntEnum):
    """What limits still have to be scaled with when the account is known."""

    NONE = 0
    MEMBERS = 1
    MEMBERS_ADDED = 2
    CONTRACTED_KW = 3


@dataclass(frozen=True, slots=True)
class Countings:
    """Rules of counting, one row for each stretch of a timeline within which they do not change.

    `kind` is a `CountKind`. `step_window` and `allowance_window` are the first instants of the
    windows, `PURCHASE_KEY`, or 0 where nothing is counted. `limits_wh[row, lane, i]` is the upper
    limit of step i, `NO_LIMIT` beyond the last, already multiplied by days; a lane is a count that
    has limits, and where all bands count together only lane 0 is used. `scale` (`LimitScale`),
    `add_wh[row, i]` and `members_included` say what an account's terms do to the limits. `free_wh`
    of the allowance window cost the customer nothing.
    """

    kind: npt.NDArray[np.int8]
    step_window: Int64
    limits_wh: Int64
    scale: npt.NDArray[np.int8]
    add_wh: Int64
    members_included: Int64
    free_wh: Int64
    allowance_window: Int64


def count_kind(tariff: Tariff) -> CountKind:
    """How a tariff counts."""
    if tariff.steps is None:
        return CountKind.NONE
    each = tariff.steps.scope is StepScope.EACH
    if tariff.steps.kind is StepKind.GRADUATED:
        return CountKind.GRADUATED_EACH if each else CountKind.GRADUATED_ALL
    return CountKind.WHOLE_EACH if each else CountKind.WHOLE_ALL


def count_columns(tariff: Tariff) -> int:
    """How many counts an account keeps under a tariff."""
    kind = count_kind(tariff)
    if kind is CountKind.NONE:
        return 0
    if kind is CountKind.GRADUATED_ALL:
        return 1
    own_price = any(
        each.kind is OverlayKind.REAL_TIME or each.price_nano_per_kwh is not None
        for each in tariff.overlays
    )
    return len(tariff.bands) + own_price


def counts_go_on(before: Tariff, after: Tariff) -> bool:
    """Whether a step count can go on when one version follows the other inside a window: both
    count over the same windows and the same things. Otherwise the later version counts from its
    own start (`counts_from_us` of `compile_timeline`).
    """
    if before.steps is None or after.steps is None:
        return False
    return _counted(before, before.steps) == _counted(after, after.steps)


def lay_countings(
    tariff: Tariff, calendar: LocalCalendar, local_day: Int64, counts_from_us: int
) -> tuple[Int64, Countings]:
    """(row of the rules that hold on each of the days, the rules), rows in the order of time.

    No step window begins before `counts_from_us`. Raises `OverflowRefused` for limits that 64 bits do
    not hold.
    """
    day, of_day = np.unique(local_day, return_inverse=True)
    step_window, limits = _step_rules(tariff, calendar, day, counts_from_us)
    allowance = free_allowance(tariff)
    free_wh = allowance.free_wh if allowance else 0
    allowance_window = np.zeros_like(day)
    if allowance is not None:
        allowance_window, _ = _window_starts(tariff, calendar, allowance.window, day)
    changes = np.ones(day.size, dtype=np.bool_)
    changes[1:] = (
        (step_window[1:] != step_window[:-1])
        | (limits[1:] != limits[:-1]).any(axis=(1, 2))
        | (allowance_window[1:] != allowance_window[:-1])
    )
    rows = int(changes.sum())
    steps = tariff.steps
    add_wh = np.zeros((rows, limits.shape[2]), dtype=np.int64)
    if steps is not None and steps.add_wh:
        add_wh[:, : len(steps.add_wh)] = steps.add_wh
    return (np.cumsum(changes) - 1)[of_day], Countings(
        kind=np.full(rows, count_kind(tariff), dtype=np.int8),
        step_window=step_window[changes],
        limits_wh=limits[changes],
        scale=np.full(rows, _limit_scale(steps), dtype=np.int8),
        add_wh=add_wh,
        members_included=np.full(rows, steps.members_included if steps else 0, dtype=np.int64),
        free_wh=np.full(rows, free_wh, dtype=np.int64),
        allowance_window=allowance_window[changes],
    )


def free_allowance(tariff: Tariff) -> Allowance | None:
    """The allowance of free energy; `ValueError` for more than one, which no account can count."""
    free = [each for each in tariff.allowances if each.free_wh]
    if len(free) > 1:
        raise ValueError("a tariff has at most one allowance of free energy")
    return free[0] if free else None


def scaled_limits(countings: Countings, row: Int64, members: Int64, contracted_w: Int64) -> Int64:
    """The limits of rules under accounts' terms, columns of one length: [n, lane, step]."""
    limits = countings.limits_wh[row]
    scale = countings.scale[row]
    if not scale.any():
        return limits
    members, contracted_w = members[:, None, None], contracted_w[:, None, None]
    scale = scale[:, None, None]
    finite = limits != NO_LIMIT
    base = np.where(finite, limits, 0)
    place = "the limit of a step"
    extra = np.maximum(members - countings.members_included[row][:, None, None], 0)
    added = checked_multiply(countings.add_wh[row][:, None, :], extra, place=place)
    factor = np.where(scale == LimitScale.MEMBERS, members, 1)
    factor = np.where(scale == LimitScale.CONTRACTED_KW, contracted_w, factor)
    product = checked_multiply(base, factor, place=place)
    product = np.where(scale == LimitScale.CONTRACTED_KW, product // _W_PER_KW, product)
    product = np.where(scale == LimitScale.MEMBERS_ADDED, product + added, product)
    return np.where(finite, product, NO_LIMIT)


def _counted(tariff: Tariff, steps: Steps) -> tuple[object, ...]:
    """What a count is about: its windows, and what each of the counts belongs to."""
    kind = count_kind(tariff)
    windows: tuple[object, ...] = (steps.window,)
    if steps.window is Window.BILLING_MONTH:
        windows += (tariff.billing_day,)
    if steps.window is Window.YEAR:
        windows += (tariff.year_from,)
    if steps.window is Window.SEASON:
        windows += tuple(season.ranges for season in tariff.seasons)
    if kind is CountKind.GRADUATED_ALL:
        return kind, windows
    return kind, windows, count_columns(tariff), tuple(band.name for band in tariff.bands)


def _step_rules(
    tariff: Tariff, calendar: LocalCalendar, day: Int64, counts_from_us: int
) -> tuple[Int64, Int64]:
    """(key of the step window, limits[day, lane, step]) of days."""
    steps = tariff.steps
    if steps is None:
        return np.zeros_like(day), np.zeros((day.size, 1, 0), dtype=np.int64)
    window, days = _window_starts(tariff, calendar, steps.window, day)
    if steps.window is not Window.PURCHASE:
        window = np.maximum(window, counts_from_us)
    season = band_table(tariff).season_of_day[grid_position(day)]
    limits = _season_limits(tariff, steps)[season]
    if steps.scale is Scale.DAYS:
        finite = limits != NO_LIMIT
        scaled = checked_multiply(
            np.where(finite, limits, 0), days[:, None, None], place="the limit of a step"
        )
        limits = np.where(finite, scaled, NO_LIMIT)
    return window, limits


def _season_limits(tariff: Tariff, steps: Steps) -> Int64:
    """[season, lane, step], `NO_LIMIT` beyond the last."""
    lanes: list[list[tuple[int, ...]]] = []
    for season in range(len(tariff.seasons)):
        common = steps.limits_wh[season] if steps.limits_wh else ()
        if steps.scope is StepScope.ALL:
            lanes.append([common])
        else:
            own = [band.limits_wh or common for band in tariff.bands]
            lanes.append(own + [()] * (count_columns(tariff) - len(own)))
    width = max(len(each) for lane in lanes for each in lane)
    limits = np.full((len(lanes), len(lanes[0]), width), NO_LIMIT, dtype=np.int64)
    for season, of_season in enumerate(lanes):
        for lane, each in enumerate(of_season):
            if any(limit >= NO_LIMIT for limit in each):
                raise OverflowRefused("the limit of a step")
            limits[season, lane, : len(each)] = each
    return limits


def _window_starts(
    tariff: Tariff, calendar: LocalCalendar, window: Window, day: Int64
) -> tuple[Int64, Int64]:
    """(first instants, days) of the windows that contain days."""
    if window is Window.PURCHASE:
        return np.full_like(day, PURCHASE_KEY), np.ones_like(day)
    windows = windows_of(window, day, tariff)
    return calendar.first_instant_at_wall(windows.first_day * DAY_US), windows.days


def _limit_scale(steps: Steps | None) -> LimitScale:
    if steps is None:
        return LimitScale.NONE
    if steps.scale is Scale.MEMBERS:
        return LimitScale.MEMBERS_ADDED if steps.add_wh else LimitScale.MEMBERS
    return LimitScale.CONTRACTED_KW if steps.scale is Scale.CONTRACTED_KW else LimitScale.NONE
