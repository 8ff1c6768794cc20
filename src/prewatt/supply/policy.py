"""A property's supply rules: from the stored JSON, the property's zone and calendar, to core's.

Every key of the JSON is optional and has the default that core gives it; an unknown key is refused,
because a misspelt rule that is silently ignored would cut somebody off at the wrong hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prewatt.core.credit import BrakePolicy, SupplyPolicy
from prewatt.core.cut_window import CutWindow
from prewatt.core.levels import Level, LevelsPolicy
from prewatt.core.orders import OrderPolicy
from prewatt.core.vocabulary import LevelKind
from prewatt.estate.calendars import local_calendar

#: What a new property starts with: two early warnings, then emergency credit, then the end of it.
DEFAULT_LEVELS: tuple[dict[str, Any], ...] = (
    {"level_no": 0, "kind": "days", "threshold_h": 72},
    {"level_no": 1, "kind": "money", "threshold_micro": 5_000_000},
    {"level_no": 2, "kind": "emergency"},
    {"level_no": 3, "kind": "exhausted"},
)

_SUPPLY_KEYS = frozenset(
    {
        "freshness_s",
        "clock_skew_s",
        "notice_s",
        "trying_s",
        "reconnect_min_micro",
        "emergency_must_be_repaid",
    }
)
_KEYS = _SUPPLY_KEYS | {
    *("window", "levels", "margin_bp", "margin_micro", "brake", "order", "usage_while_open_wh"),
}
#: So much may a register rise behind an open relay before a person is called: what a meter whose clock is
#: off counted before the relay opened. An open relay lets nothing through, so this is no allowance.
USAGE_WHILE_OPEN_WH: Final = 100


class PolicyRefused(ValueError):
    """A property's supply rules cannot be used; the message says which key and why."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A property's supply rules, compiled: what core's functions take, and the currency."""

    supply: SupplyPolicy
    levels: LevelsPolicy
    brake: BrakePolicy
    order: OrderPolicy
    currency: str
    usage_while_open_wh: int = USAGE_WHILE_OPEN_WH


def compile_rules(
    body: Mapping[str, Any],
    *,
    time_zone: str,
    holiday_calendar: str,
    currency: str,
    year: int,
    own_calendar: str = "",
) -> Rules:
    """Compile the stored rules for decisions in ``year``; raises `PolicyRefused`."""
    unknown = sorted(set(body) - _KEYS)
    if unknown:
        raise PolicyRefused(f"unknown supply rules: {', '.join(unknown)}")
    try:
        calendar = local_calendar(time_zone, holiday_calendar, year - 1, year + 2, own_calendar)
        window = dict(body.get("window", {}))
        if "weekdays" in window:
            window["weekdays"] = frozenset(window["weekdays"])
        supply = {key: body[key] for key in _SUPPLY_KEYS & set(body)}
        margins = {key: body[key] for key in ("margin_bp", "margin_micro") if key in body}
        levels = tuple(_level(each) for each in body.get("levels", DEFAULT_LEVELS))
        if not any(level.kind is LevelKind.EXHAUSTED for level in levels):
            raise PolicyRefused("levels: one of kind exhausted is needed, or nobody is warned")
        return Rules(
            SupplyPolicy(CutWindow(calendar, **window), **supply),
            LevelsPolicy(levels, **margins),
            BrakePolicy(**body.get("brake", {})),
            OrderPolicy(**body.get("order", {})),
            currency,
            _tolerance_wh(body.get("usage_while_open_wh", USAGE_WHILE_OPEN_WH)),
        )
    except (TypeError, KeyError, ValueError) as error:
        raise PolicyRefused(str(error)) from error


def _tolerance_wh(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= 1_000_000:
        raise PolicyRefused("usage_while_open_wh: whole watt-hours from 0 to 1000000")
    return found


def _level(each: Mapping[str, Any]) -> Level:
    return Level(**{**each, "kind": LevelKind[str(each["kind"]).upper()]})
