"""Whether a form is a plan, and which field keeps it from being one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prewatt.core.tariff import Tariff, TariffRefused, parse_tariff
from prewatt.core.tariff.words import FORMAT
from prewatt.web.console.plan_document import FormRefused, document_of
from prewatt.web.console.plan_state import State, band_words, pairs


@dataclass(frozen=True, slots=True)
class Refusal:
    """What keeps a form from being a plan: the field's path, the document's place, the reason."""

    path: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A form as far as it goes: the document, the plan or why there is none."""

    document: dict[str, object]
    tariff: Tariff | None
    refusal: Refusal | None


def check(state: State, currency: str) -> Checked:
    """The plan of a form, or the first fault with its field."""
    try:
        document = document_of(state)
    except FormRefused as refused:
        fault = Refusal(refused.path, refused.place, refused.reason)
        return Checked({}, None, fault)
    return check_document(document, currency, state)


def check_document(
    document: Mapping[str, object], currency: str, state: State | None = None
) -> Checked:
    """The plan of a document of this property, or the first fault."""
    written = dict(document)
    try:
        tariff = parse_tariff(written)
        if tariff.currency != currency:
            raise TariffRefused("currency", f"must be {currency}, the currency of this property")
    except TariffRefused as refused:
        if state is not None and refused.reason == _UNUSED:
            return Checked(written, None, _without_hours(refused, state))
        path = field_of(refused.place, state) if state is not None else ""
        return Checked(written, None, Refusal(path, refused.place, refused.reason))
    return Checked(written, tariff, None)


_UNUSED: Final = "is used by no period"


def _without_hours(refused: TariffRefused, state: State) -> Refusal:
    """A band that holds at no hour: what is missing are its hours, not its name."""
    names = band_words(state)
    at = _position(names, refused.place.rpartition(".")[2])
    label = state["bands"][at]["label"].strip() or names[at]
    return Refusal("schedule", refused.place, f"{label} {_UNUSED}")


def energy_alone(document: Mapping[str, object]) -> Tariff | None:
    """The plan's prices and hours by themselves, for a picture while another part is being written."""
    try:
        return parse_tariff(
            {
                "format": FORMAT,
                "name": "plan",
                "currency": document["currency"],
                "energy": document["energy"],
            }
        )
    except (TariffRefused, KeyError):
        return None


_PLACE: Final = re.compile(r"[a-z_][a-z0-9_-]*|\[[0-9]+\]")
_PLAIN: Final = frozenset(
    {"standing", "fees", "demand", "taxes", "allowances", "overlays"},
)
_STEPS: Final[Mapping[str, str]] = {"on_tenant_change": "tenant", "kWh": "limits"}


def field_of(place: str, state: State) -> str:
    """The path of the field that a document's place is written in, or of the part it is in."""
    parts = [part.strip("[]") for part in _PLACE.findall(place)]
    head, rest = (parts[0], parts[1:]) if parts else ("", [])
    if head == "energy":
        return _energy_field(rest, state)
    if head in _PLAIN and rest:
        return f"{head}.{rest[0]}" + (f".{_row_field(head, rest[1:], state)}" if rest[1:] else "")
    if head in ("minimum", "maximum"):
        return f"{head}.amount"
    if head == "debt_recovery":
        return "debt.cap" if rest == ["weekly_cap"] else "debt.share"
    if head == "temporary":
        return f"temporary.{rest[-1]}" if rest and rest[-1] != "season" else "temporary.from"
    return head


def _row_field(head: str, rest: Sequence[str], state: State) -> str:
    key = rest[0]
    if key == "ratchet":
        return f"ratchet_{rest[1] if len(rest) > 1 else 'share'}"
    amounts = ("per_day", "per_month", "per_year", "per_kwh", "share", "free_kwh")
    if head in ("standing", "fees", "allowances") and key in amounts:
        return "amount"
    return key


def _energy_field(rest: Sequence[str], state: State) -> str:
    part, inner = (rest[0], rest[1:]) if rest else ("bands", [])
    if part == "bands":
        return _band_field(inner, state)
    if part == "seasons" and inner:
        at = _position([row["name"].strip() for row in state["seasons"]], inner[0])
        return f"seasons.{at}" + (f".ranges.{'.'.join(inner[1:])}" if inner[1:] else "")
    if part == "day_classes":
        return "kinds"
    if part == "schedule" and len(inner) > 2:
        return _period_field(inner, state)
    if part == "steps" and inner:
        return _steps_field(inner, state)
    return part


def _band_field(inner: Sequence[str], state: State) -> str:
    if not inner:
        return "bands"
    at = _position(band_words(state), inner[0])
    key = inner[1] if len(inner) > 1 else "name"
    if key in ("price", "prices"):
        return f"bands.{at}.prices.{inner[2] if len(inner) > 2 else 0}"
    return f"bands.{at}.{key}"


def _period_field(inner: Sequence[str], state: State) -> str:
    """`schedule[1].periods[2].until` is the beginning of the period after."""
    key = pairs(state)[min(int(inner[0]), len(pairs(state)) - 1)][0]
    if len(inner) < 4:
        return f"schedule.{key}.0.from"
    at, name = int(inner[2]), inner[3]
    if name == "until":
        at, name = min(at + 1, len(state["schedule"][key]) - 1), "from"
    return f"schedule.{key}.{at}.{name}"


def _steps_field(inner: Sequence[str], state: State) -> str:
    key = inner[0]
    if key == "limits":
        if state["steps"]["limits_for"] == "band":
            return "bands.0.limits"
        if len(inner) > 1 and not inner[1].isdigit():
            names = [row["name"].strip() for row in state["seasons"]]
            return f"steps.season_limits.{_position(names, inner[1])}"
        return f"steps.limits.{inner[1] if len(inner) > 1 else 0}"
    if key == "members":
        return "steps.included" if inner[1:2] == ["included"] else "steps.add"
    return f"steps.{_STEPS.get(key, key)}"


def _position(names: Sequence[str], name: str) -> int:
    return list(names).index(name) if name in names else 0
