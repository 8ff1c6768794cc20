"""Rows of a plan's form that come and go, with what hangs on them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from prewatt.core.tariff.model import DAY_KINDS, MAX_STEPS
from prewatt.web.console.plan_state import (
    PERIODS_MAX,
    RANGES_MAX,
    ROWS,
    State,
    completed,
    pairs,
)


def act(state: State, do: str) -> State:
    """The state after ``add:PATH`` or ``remove:PATH``; what cannot be done changes nothing."""
    verb, _, path = do.partition(":")
    after = copy.deepcopy(state)
    steps = path.split(".")
    if verb == "add" and path in ("seasons", "classes") and not after[path]:
        _begin_calendar(after, path)
    elif verb == "add":
        _add(after, steps)
    elif verb == "remove":
        _remove(after, steps)
    return completed(after)


def _add(state: State, steps: Sequence[str]) -> None:
    match steps:
        case [key] if key in ROWS:
            row, most = ROWS[key]
            if len(state[key]) < most:
                state[key].append(copy.deepcopy(row))
                if key in ("seasons", "classes"):
                    _grow_schedule(state)
        case ["seasons", at, "ranges"] if _row(state["seasons"], at):
            ranges = state["seasons"][int(at)]["ranges"]
            if len(ranges) < RANGES_MAX:
                ranges.append({"from": "", "until": ""})
        case ["schedule", key] if key in state["schedule"]:
            periods = state["schedule"][key]
            if len(periods) < PERIODS_MAX:
                periods.append({"from": "", "band": periods[-1]["band"]})
        case ["steps", "limits"] if len(state["steps"]["limits"]) < MAX_STEPS - 1:
            state["steps"]["limits"].append("")


def _remove(state: State, steps: Sequence[str]) -> None:
    match steps:
        case ["bands", at] if _row(state["bands"], at) and len(state["bands"]) > 1:
            del state["bands"][int(at)]
            _forget_band(state, int(at))
        case ["seasons" | "classes" as key, at] if _row(state[key], at):
            del state[key][int(at)]
            _forget_days(state, key, int(at))
        case [key, at] if key in ROWS and _row(state[key], at):
            del state[key][int(at)]
        case ["seasons", at, "ranges", number] if _row(state["seasons"], at):
            ranges = state["seasons"][int(at)]["ranges"]
            if _row(ranges, number) and len(ranges) > 1:
                del ranges[int(number)]
        case ["schedule", key, number] if key in state["schedule"]:
            periods = state["schedule"][key]
            if _row(periods, number) and int(number) > 0:
                del periods[int(number)]
        case ["steps", "limits", at]:
            limits = state["steps"]["limits"]
            if _row(limits, at) and len(limits) > 1:
                del limits[int(at)]
                for band in state["bands"]:
                    del band["prices"][int(at) + 1 : int(at) + 2]


def _row(rows: Sequence[object], at: str) -> bool:
    return at.isascii() and at.isdigit() and len(at) < 10 and int(at) < len(rows)


def _begin_calendar(state: State, key: str) -> None:
    """The first season or class brings the one that it differs from."""
    if key == "seasons":
        state["seasons"] = [
            {"name": "summer", "ranges": [{"from": "06-01", "until": "09-01"}]},
            {"name": "rest", "ranges": [{"from": "09-01", "until": "06-01"}]},
        ]
    else:
        state["classes"] = [{"name": "workday"}, {"name": "restday"}]
        state["kinds"] = {kind: "0" if at < 5 else "1" for at, kind in enumerate(DAY_KINDS)}
    _grow_schedule(state)


def _grow_schedule(state: State) -> None:
    """New pairs of season and class begin with the hours of the first class, or the first season."""
    old = state["schedule"]
    for key, season, _class in pairs(state):
        if key not in old:
            like = old.get(f"{season}-0") or old.get("0-0")
            old[key] = copy.deepcopy(like)


def _forget_band(state: State, gone: int) -> None:
    """Hours of a band that is gone fall to the first one; later bands move up."""
    for periods in state["schedule"].values():
        for period in periods:
            period["band"] = _moved(period["band"], gone, "0")
    for demand in state["demand"]:
        kept = (_moved(each, gone, "") for each in demand["bands"])
        demand["bands"] = [each for each in kept if each]


def _forget_days(state: State, key: str, gone: int) -> None:
    """The schedules of a season or class that is gone go too; its days fall to the first class."""
    many = max(len(state[key]), 1)
    place = 0 if key == "seasons" else 1
    kept: State = {}
    for old, periods in state["schedule"].items():
        position = old.split("-")
        if position[place] == str(gone) and len(state[key]):
            continue
        position[place] = _moved(position[place], gone, "0")
        if int(position[place]) < many:
            kept.setdefault("-".join(position), periods)
    state["schedule"] = kept
    if key == "classes":
        state["kinds"] = {kind: _moved(at, gone, "0") for kind, at in state["kinds"].items()}
    else:
        limits = state["steps"]["season_limits"]
        state["steps"]["season_limits"] = {
            _moved(at, gone, "0"): text for at, text in limits.items() if at != str(gone)
        }


def _moved(position: str, gone: int, instead: str) -> str:
    if not (position.isascii() and position.isdigit() and len(position) < 10):
        return position
    at = int(position)
    return instead if at == gone else str(at - 1 if at > gone else at)
