"""A price plan as the fields of a form: nested dictionaries and lists of strings.

A field's name is its path in the state (``bands.0.prices.1``), so that what a browser posts, what a
template shows and what a refusal points at are the same thing. Periods are entered by their beginning
alone, days by the one class that each belongs to: a gap or an overlap of hours or days cannot be
written at all. `plan_document` turns the fields into a document and back, `plan_rows` adds and removes
rows, `plan_fields` finds the field of a refusal.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.http import QueryDict

from prewatt.core.tariff.model import DAY_KINDS, MAX_BANDS, MAX_STEPS
from prewatt.core.tariff.parse_charges import MAX_ENTRIES

State = dict[str, Any]

_NAME: Final = re.compile(r"[a-z_]+(\.[a-z0-9_-]{1,32}){0,4}(\[\])?")
WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ROWS_MAX: Final = 64
_TEXT_MAX: Final = 1_200
PERIODS_MAX: Final = 48
RANGES_MAX: Final = 12
_CALENDAR_MAX: Final = 12

#: The lists of the form: what a new row says, and how many there may be.
ROWS: Final[Mapping[str, tuple[State, int]]] = {
    "bands": ({"name": "", "label": "", "prices": [""], "limits": ""}, MAX_BANDS),
    "seasons": ({"name": "", "ranges": [{"from": "", "until": ""}]}, _CALENDAR_MAX),
    "classes": ({"name": ""}, len(DAY_KINDS)),
    "standing": (
        {"code": "", "label": "", "amount": "", "per": "per_day", "collect": "daily"},
        MAX_ENTRIES,
    ),
    "fees": (
        {"code": "", "label": "", "amount": "", "per": "per_kwh", "collect": "daily"},
        MAX_ENTRIES,
    ),
    "demand": (
        {
            "code": "", "label": "", "per_kw": "", "interval_minutes": "15", "bands": [],
            "ratchet_share": "", "ratchet_months": "", "power_factor": "",
        },
        MAX_ENTRIES,
    ),
    "taxes": (
        {
            "code": "", "label": "", "rate": "", "inclusive": "", "compound": "", "from": "",
            "until": "", "on": ["energy", "standing", "fee", "demand", "minimum"],
        },
        MAX_ENTRIES,
    ),
    "allowances": (
        {"code": "", "label": "", "form": "free_kwh", "amount": "", "window": "month"},
        2,
    ),
    "overlays": (
        {
            "kind": "critical_peak", "group": "", "price": "", "adder": "", "share": "",
            "rebate": "", "baseline_days": "", "baseline_highest": "", "wait_hours": "",
        },
        MAX_ENTRIES,
    ),
}  # fmt: skip
_PARTS: Final[Mapping[str, State]] = {
    "steps": {
        "on": "", "kind": "graduated", "window": "month", "scope": "all", "limits_for": "all",
        "limits": [""], "season_limits": {}, "scale": "none", "included": "", "add": "",
        "tenant": "reset",
    },
    "minimum": {"amount": "", "per": "per_month"},
    "maximum": {"amount": "", "per": "per_month"},
    "debt": {"share": "", "cap": ""},
    "temporary": {"on": "", "unit": "day", "fee": "", "deposit": "", "from": "", "until": ""},
}  # fmt: skip
TEXTS: Final[Mapping[str, str]] = {
    "name": "", "note": "", "source": "", "billing_day": "1", "year_from": "01-01", "currency": "",
}  # fmt: skip


def blank(currency: str) -> State:
    """The form of a plan with one price, which is still to be said."""
    state = completed({"currency": currency})
    state["bands"] = [{"name": "", "label": "", "prices": [""], "limits": ""}]
    return completed(state)


def posted(data: QueryDict) -> State:
    """What a browser sent, as state; names that are no path are passed over."""
    root: State = {}
    for name in data:
        if not _NAME.fullmatch(name):
            continue
        steps = name.removesuffix("[]").split(".")
        value: object = data.get(name, "")[:_TEXT_MAX]
        if name.endswith("[]"):
            value = [each[:_TEXT_MAX] for each in data.getlist(name)][:_ROWS_MAX]
        _put(root, steps, value)
    return completed(_listed(root))


def step_count(state: State) -> int:
    """How many steps, and so prices of a band, the form asks for."""
    steps = state["steps"]
    if not steps["on"]:
        return 1
    if steps["limits_for"] == "season":
        counts = [len(list_of(text)) for text in steps["season_limits"].values()]
    elif steps["limits_for"] == "band":
        counts = [len(list_of(band["limits"])) for band in state["bands"]]
    else:
        counts = [len(steps["limits"])]
    return min(max([1, *counts]) + 1, MAX_STEPS)


def pairs(state: State) -> list[tuple[str, int, int]]:
    """(key, season, class) of each day schedule, by position; one of each where there is no list."""
    return [
        (f"{season}-{each}", season, each)
        for season in range(max(len(state["seasons"]), 1))
        for each in range(max(len(state["classes"]), 1))
    ]


def band_words(state: State) -> list[str]:
    """The bands' short names: as written, else made from their labels."""
    alone = len(state["bands"]) == 1
    return [
        band["name"].strip() or slug(band["label"], "energy" if alone else f"band-{at + 1}")
        for at, band in enumerate(state["bands"])
    ]


def slug(text: str, default: str) -> str:
    """A short word for machines out of a label; the default where the label has no such letters."""
    word = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:32].strip("-")
    return word if WORD.fullmatch(word) else default


def list_of(text: str) -> list[str]:
    """`230, 400` as its parts; none for nothing."""
    return [part.strip() for part in re.split(r"[,;，、\s]+", text.strip()) if part.strip()]


def _put(root: State, steps: Sequence[str], value: object) -> None:
    here = root
    for step in steps[:-1]:
        inner = here.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        here = inner
    here[steps[-1]] = value


#: Dictionaries whose keys are positions but which are not lists.
_KEYED: Final = frozenset({"season_limits"})


def _listed(value: Any, name: str = "") -> Any:
    """Dictionaries with positions for keys as lists, in order, holes closed."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each, key) for key, each in value.items()}
    if name not in _KEYED and inner and all(key.isascii() and key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)][:_ROWS_MAX]
    return inner


def completed(state: State) -> State:
    """Every part and every field there, of the right shape, so that templates need not ask."""
    whole: State = {key: _text(state.get(key, default)) for key, default in TEXTS.items()}
    for key, (row, most) in ROWS.items():
        rows = state.get(key, [])
        whole[key] = [_filled(each, row) for each in rows if isinstance(each, dict)][:most]
    for key, part in _PARTS.items():
        given = state.get(key)
        whole[key] = _filled(given if isinstance(given, dict) else {}, part)
    if not whole["bands"]:
        whole["bands"] = [_filled({"name": "energy"}, ROWS["bands"][0])]
    kinds = state.get("kinds")
    whole["kinds"] = {
        kind: _text(kinds.get(kind, "") if isinstance(kinds, dict) else "") for kind in DAY_KINDS
    }
    for season in whole["seasons"]:
        given = [each for each in season["ranges"] if isinstance(each, dict)]
        season["ranges"] = [_filled(each, {"from": "", "until": ""}) for each in given or [{}]]
    _complete_steps(whole)
    _complete_schedule(whole, state.get("schedule"))
    return whole


def _complete_steps(whole: State) -> None:
    steps = whole["steps"]
    steps["limits"] = [_text(each) for each in steps["limits"]][: MAX_STEPS - 1] or [""]
    given = steps["season_limits"] if isinstance(steps["season_limits"], dict) else {}
    steps["season_limits"] = {
        str(at): _text(given.get(str(at), "")) for at in range(len(whole["seasons"]))
    }
    if steps["limits_for"] == "season" and not whole["seasons"]:
        steps["limits_for"] = "all"
    count = step_count(whole)
    for band in whole["bands"]:
        prices = [_text(each) for each in band["prices"]]
        band["prices"] = (prices + [""] * count)[: max(count, 1)]


def _complete_schedule(whole: State, given: object) -> None:
    known = given if isinstance(given, dict) else {}
    whole["schedule"] = {}
    for key, _season, _class in pairs(whole):
        periods = [
            _filled(each, {"from": "", "band": "0"})
            for each in known.get(key) or []
            if isinstance(each, dict)
        ][:PERIODS_MAX]
        periods = periods or [{"from": "00:00", "band": "0"}]
        periods[0]["from"] = "00:00"
        whole["schedule"][key] = periods


def _filled(given: Mapping[str, Any], row: Mapping[str, Any]) -> State:
    """A row with every field of its kind; one of another shape is passed over."""
    filled: State = {}
    for key, default in row.items():
        value = given.get(key, default)
        if isinstance(default, str):
            filled[key] = _text(value)
        elif isinstance(default, list):
            filled[key] = copy.deepcopy(value) if isinstance(value, list) else []
        else:
            filled[key] = copy.deepcopy(value) if isinstance(value, dict) else {}
    return filled


def _text(value: object) -> str:
    return value[:_TEXT_MAX] if isinstance(value, str) else ""
