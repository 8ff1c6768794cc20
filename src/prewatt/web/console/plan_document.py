"""From the fields of a plan's form to a tariff document, and back.

Whatever a tariff document can say has a field: `state_of` and `document_of` are inverse for every
plan that parses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from prewatt.core.tariff.model import DAY_KINDS
from prewatt.core.tariff.parse_calendar import EVERY_DAY, WHOLE_YEAR
from prewatt.core.tariff.words import FORMAT
from prewatt.core.written import WrittenRefused, read_decimal
from prewatt.web.console.plan_state import (
    TEXTS,
    WORD,
    State,
    band_words,
    completed,
    list_of,
    pairs,
    slug,
    step_count,
)

#: As many as a price of a kWh may have; no figure of a plan has more.
_DECIMALS: Final = 9


class FormRefused(Exception):
    """What the form cannot turn into a document, since a name in it stands for one thing only.

    ``path`` is the field's, ``place`` and ``reason`` are as in a refused tariff.
    """

    def __init__(self, path: str, place: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.place = place
        self.reason = reason


def document_of(state: State) -> dict[str, object]:
    """The document that the fields say; it need not be a plan yet."""
    document: dict[str, object] = {
        "format": FORMAT,
        "name": state["name"].strip(),
        "currency": state["currency"],
        "energy": _energy(state),
    }
    lists = {
        "standing": [_dated(row, "standing", at) for at, row in enumerate(state["standing"])],
        "fees": [_dated(row, "fee", at) for at, row in enumerate(state["fees"])],
        "demand": [_demand(row, at, state) for at, row in enumerate(state["demand"])],
        "taxes": [_tax(row, at) for at, row in enumerate(state["taxes"])],
        "allowances": [_allowance(row, at) for at, row in enumerate(state["allowances"])],
        "overlays": [_overlay(row) for row in state["overlays"]],
    }
    document |= {key: rows for key, rows in lists.items() if rows}
    for key in ("minimum", "maximum"):
        if state[key]["amount"].strip():
            document[key] = {state[key]["per"]: figure(state[key]["amount"])}
    if state["debt"]["share"].strip() or state["debt"]["cap"].strip():
        document["debt_recovery"] = _said(
            share=figure(state["debt"]["share"]), weekly_cap=figure(state["debt"]["cap"])
        )
    if state["temporary"]["on"]:
        document["temporary"] = _temporary(state["temporary"])
    if (day := _number(state["billing_day"])) not in (1, ""):
        document["billing_day"] = day
    if (begins := state["year_from"].strip()) not in ("01-01", ""):
        document["year_from"] = begins
    return document | _said(note=state["note"], source=state["source"])


def _energy(state: State) -> dict[str, object]:
    bands = {}
    for at, (band, name) in enumerate(zip(state["bands"], band_words(state), strict=True)):
        bands[name] = _band(band, name, step_count(state), state)
        _refuse_word(name, f"bands.{at}.name", "energy.bands", band_words(state)[:at])
    energy: dict[str, object] = {"unit": "kWh", "bands": bands}
    if state["seasons"]:
        energy["seasons"] = _seasons(state)
    if state["classes"]:
        energy["day_classes"] = _classes(state)
    if len(bands) > 1:
        energy["schedule"] = [_day(state, *pair) for pair in pairs(state)]
    if state["steps"]["on"]:
        energy["steps"] = _steps(state)
    return energy


def _band(band: State, name: str, steps: int, state: State) -> dict[str, object]:
    prices = [figure(price) for price in band["prices"][:steps]]
    while len(prices) > 1 and not prices[-1]:
        prices.pop()
    entry: dict[str, object] = {"price": prices[0]} if len(prices) == 1 else {"prices": prices}
    entry["label"] = band["label"].strip() or name
    if state["steps"]["on"] and state["steps"]["limits_for"] == "band":
        entry["limits"] = list_of(band["limits"])
    return entry


def _seasons(state: State) -> dict[str, object]:
    found: dict[str, object] = {}
    for at, season in enumerate(state["seasons"]):
        name = season["name"].strip()
        _refuse_word(name, f"seasons.{at}.name", "energy.seasons", list(found))
        found[name] = [
            {"from": each["from"].strip(), "until": each["until"].strip()}
            for each in season["ranges"]
        ]
    return found


def _classes(state: State) -> dict[str, object]:
    found: dict[str, list[str]] = {}
    for at, row in enumerate(state["classes"]):
        name = row["name"].strip()
        _refuse_word(name, f"classes.{at}.name", "energy.day_classes", list(found))
        found[name] = [kind for kind in DAY_KINDS if state["kinds"].get(kind) == str(at)]
    return dict(found)


def _day(state: State, key: str, season: int, day_class: int) -> dict[str, object]:
    names, periods = band_words(state), state["schedule"][key]
    ends = [period["from"].strip() for period in periods[1:]] + ["24:00"]
    entry: dict[str, object] = {
        "periods": [
            {
                "from": period["from"].strip(),
                "until": until,
                "band": _at(names, period["band"]),
            }
            for period, until in zip(periods, ends, strict=True)
        ]
    }
    if state["seasons"]:
        entry["season"] = state["seasons"][season]["name"].strip()
    if state["classes"]:
        entry["days"] = state["classes"][day_class]["name"].strip()
    return entry


def _steps(state: State) -> dict[str, object]:
    steps = state["steps"]
    entry: dict[str, object] = {
        "kind": steps["kind"],
        "window": steps["window"],
        "scope": steps["scope"],
        "on_tenant_change": steps["tenant"],
    }
    if steps["limits_for"] == "season" and state["seasons"]:
        entry["limits"] = {
            season["name"].strip(): list_of(steps["season_limits"].get(str(at), ""))
            for at, season in enumerate(state["seasons"])
        }
    elif steps["limits_for"] != "band":
        entry["limits"] = [figure(limit) for limit in steps["limits"]]
    if steps["scale"] != "none":
        entry["scale"] = steps["scale"]
    if steps["scale"] == "members" and (steps["add"].strip() or steps["included"].strip()):
        entry["members"] = {
            "included": _number(steps["included"]),
            "add": list_of(steps["add"]),
        }
    return entry


def _dated(row: State, kind: str, at: int) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": _code(row, kind, at),
        row["per"]: figure(row["amount"]),
        **_said(label=row["label"]),
    }
    if row["collect"] != "daily" and row["per"] not in ("per_kwh", "share"):
        entry["collect"] = row["collect"]
    return entry


def _demand(row: State, at: int, state: State) -> dict[str, object]:
    names = band_words(state)
    entry: dict[str, object] = {
        "code": _code(row, "demand", at),
        "per_kw": figure(row["per_kw"]),
        "interval_minutes": _number(row["interval_minutes"]),
        **_said(label=row["label"], power_factor=figure(row["power_factor"])),
    }
    if row["bands"]:
        entry["bands"] = [_at(names, each) for each in row["bands"]]
    if row["ratchet_share"].strip() or row["ratchet_months"].strip():
        entry["ratchet"] = {
            "share": figure(row["ratchet_share"]),
            "months": _number(row["ratchet_months"]),
        }
    return entry


def _tax(row: State, at: int) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": _code(row, "tax", at),
        "rate": figure(row["rate"]),
        "on": list(row["on"]),
        **_said(label=row["label"], until=row["until"]),
        **_said(**{"from": row["from"]}),
    }
    for key in ("inclusive", "compound"):
        if row[key]:
            entry[key] = True
    return entry


def _allowance(row: State, at: int) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": _code(row, "allowance", at),
        row["form"]: figure(row["amount"]),
        **_said(label=row["label"]),
    }
    if row["form"] == "free_kwh":
        entry["window"] = row["window"]
    return entry


def _overlay(row: State) -> dict[str, object]:
    entry: dict[str, object] = {"kind": row["kind"], "group": row["group"].strip()}
    if row["kind"] == "real_time":
        return entry | _said(share=figure(row["share"]), adder=figure(row["adder"]))
    entry |= _said(**{key: figure(row[key]) for key in ("price", "adder", "rebate")})
    for key in ("baseline_days", "baseline_highest", "wait_hours"):
        if row[key].strip():
            entry[key] = _number(row[key])
    return entry


def _temporary(row: State) -> dict[str, object]:
    entry: dict[str, object] = {
        "unit": row["unit"],
        **_said(fee=figure(row["fee"]), deposit=figure(row["deposit"])),
    }
    if row["from"].strip() or row["until"].strip():
        entry["season"] = {"from": row["from"].strip(), "until": row["until"].strip()}
    return entry


def _said(**texts: str) -> dict[str, object]:
    """The texts that say something."""
    return {key: text.strip() for key, text in texts.items() if text.strip()}


def figure(text: str) -> str:
    """A figure as a document has it, with a point; what is none stays as written and is refused."""
    try:
        return str(read_decimal(text, decimals=_DECIMALS))
    except WrittenRefused:
        return text.strip()


def _code(row: State, kind: str, at: int) -> str:
    """A row's own code, else one made from its label; the first of a kind is called by the kind."""
    written = str(row["code"]).strip()
    return written or slug(row["label"], kind if at == 0 else f"{kind}-{at + 1}")


def _number(text: str) -> object:
    """A whole number as such; anything else stays as written and is refused with its place."""
    plain = text.strip()
    return int(plain) if plain.isascii() and plain.isdigit() and len(plain) < 10 else plain


def _at(names: Sequence[str], position: str) -> str:
    """The name at a position, or the position as written where there is none."""
    plain = position.isascii() and position.isdigit() and len(position) < 10
    return names[int(position)] if plain and int(position) < len(names) else position


def _refuse_word(name: str, path: str, place: str, before: Sequence[str]) -> None:
    if not WORD.fullmatch(name):
        raise FormRefused(path, place, f"{name!r} must be a short word of a-z, 0-9, '_' and '-'")
    if name in before:
        raise FormRefused(path, f"{place}.{name}", "is there twice")


def state_of(document: Mapping[str, Any]) -> State:
    """The fields of a canonical document (`core.tariff.to_document`)."""
    energy = document["energy"]
    bands, names = [], list(energy["bands"])
    for name, band in energy["bands"].items():
        prices = band["prices"] if "prices" in band else [band["price"]]
        limits = ", ".join(band.get("limits", ()))
        bands.append({"name": name, "label": band["label"], "prices": prices, "limits": limits})
    state: State = {
        "bands": bands,
        **{key: str(document.get(key, default)) for key, default in TEXTS.items()},
        **_calendar_state(energy, names),
        "steps": _steps_state(energy),
        **{key: _bound_state(document[key]) for key in ("minimum", "maximum") if key in document},
    }
    standing = document.get("standing", [])
    state["standing"] = [
        _dated_state({"code": "standing", **row})
        for row in (standing if isinstance(standing, list) else [standing])
    ]
    state["fees"] = [_dated_state(row) for row in document.get("fees", ())]
    state["demand"] = [_demand_state(row, names) for row in document.get("demand", ())]
    state["taxes"] = [_tax_state(row) for row in document.get("taxes", ())]
    state["allowances"] = [_allowance_state(row) for row in document.get("allowances", ())]
    state["overlays"] = [
        {key: str(value) for key, value in row.items()} for row in document.get("overlays", ())
    ]
    if "debt_recovery" in document:
        debt = document["debt_recovery"]
        state["debt"] = {"share": debt["share"], "cap": debt.get("weekly_cap", "")}
    if "temporary" in document:
        plan = document["temporary"]
        state["temporary"] = {
            "on": "1",
            **{key: plan[key] for key in ("unit", "fee", "deposit")},
            **plan.get("season", {}),
        }
    return completed(state)


def _calendar_state(energy: Mapping[str, Any], names: Sequence[str]) -> State:
    seasons, classes = energy["seasons"], energy["day_classes"]
    kinds = {kind: str(at) for at, days in enumerate(classes.values()) for kind in days}
    schedule = {}
    for entry in energy["schedule"]:
        key = f"{list(seasons).index(entry['season'])}-{list(classes).index(entry['days'])}"
        schedule[key] = [
            {"from": period["from"], "band": str(names.index(period["band"]))}
            for period in entry["periods"]
        ]
    plain_year, plain_week = list(seasons) == [WHOLE_YEAR], list(classes) == [EVERY_DAY]
    return {
        "seasons": []
        if plain_year
        else [{"name": name, "ranges": _over_new_year(ranges)} for name, ranges in seasons.items()],
        "classes": [] if plain_week else [{"name": name} for name in classes],
        "kinds": {} if plain_week else kinds,
        "schedule": schedule,
    }


def _over_new_year(ranges: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Days at both ends of the year as the one stretch that people write."""
    first, last = ranges[0], ranges[-1]
    if len(ranges) > 1 and first["from"] == last["until"] == "01-01":
        return [*ranges[1:-1], {"from": last["from"], "until": first["until"]}]
    return list(ranges)


def _steps_state(energy: Mapping[str, Any]) -> State:
    if "steps" not in energy:
        return {}
    steps = energy["steps"]
    limits = steps.get("limits")
    state: State = {
        "on": "1",
        "kind": steps["kind"],
        "window": steps["window"],
        "scope": steps["scope"],
        "scale": steps.get("scale", "none"),
        "tenant": steps["on_tenant_change"],
        "limits_for": "all",
    }
    if limits is None:
        state["limits_for"] = "band"
    elif isinstance(limits, Mapping):
        state["limits_for"] = "season"
        state["season_limits"] = {
            str(at): ", ".join(limits[name]) for at, name in enumerate(energy["seasons"])
        }
    else:
        state["limits"] = list(limits)
    if "members" in steps:
        state["included"] = str(steps["members"]["included"])
        state["add"] = ", ".join(steps["members"]["add"])
    return state


def _bound_state(bound: Mapping[str, str]) -> State:
    per, amount = next(iter(bound.items()))
    return {"amount": amount, "per": per}


def _dated_state(row: Mapping[str, str]) -> State:
    forms = ("per_day", "per_month", "per_year", "per_kwh", "share")
    per = next(key for key in forms if key in row)
    return {
        "code": row["code"],
        "label": row.get("label", ""),
        "amount": row[per],
        "per": per,
        "collect": row.get("collect", "daily"),
    }


def _demand_state(row: Mapping[str, Any], names: Sequence[str]) -> State:
    ratchet = row.get("ratchet", {})
    return {
        **{key: row[key] for key in ("code", "label", "per_kw")},
        "interval_minutes": str(row["interval_minutes"]),
        "bands": [str(names.index(each)) for each in row.get("bands", ())],
        "ratchet_share": ratchet.get("share", ""),
        "ratchet_months": str(ratchet.get("months", "")),
        "power_factor": row.get("power_factor", ""),
    }


def _tax_state(row: Mapping[str, Any]) -> State:
    return {
        **{key: row.get(key, "") for key in ("code", "label", "rate", "from", "until")},
        "on": list(row["on"]),
        "inclusive": "1" if row.get("inclusive") else "",
        "compound": "1" if row.get("compound") else "",
    }


def _allowance_state(row: Mapping[str, str]) -> State:
    form = "free_kwh" if "free_kwh" in row else "per_kwh"
    return {
        "code": row["code"],
        "label": row["label"],
        "form": form,
        "amount": row[form],
        "window": row.get("window", "month"),
    }
