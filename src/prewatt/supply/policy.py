"""A property's supply rules: from the stored JSON, the property's zone and calendar, to core's.

Every key of the JSON is optional and has the default that core gives it; an unknown key is refused,
because a misspelt rule that is silently ignored would cut somebody off at the wrong hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from prewatt.core.credit import BrakePolicy, SupplyPolicy
from prewatt.core.cut_window import CutWindow, next_open_at_us
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


#: What a rule may be, by its key: least and most. Drills and the demo live within it as well.
BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "notice_s": (0, 7 * 86_400),
    "trying_s": (0, 30 * 86_400),
    "freshness_s": (60, 7 * 86_400),
    "reconnect_min_micro": (0, 1_000_000_000),
    "brake.window_s": (60, 7 * 86_400),
    "brake.cuts_max": (1, 100_000),
    "brake.share_bp": (1, 10_000),
}


class PolicyRefused(ValueError):
    """A property's supply rules cannot be used; the message says which key and why."""


class RuleRefused(PolicyRefused):
    """One rule that nobody may set: ``place`` is its key, ``reason`` a stable word."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


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


def refuse_out_of_bounds(body: Mapping[str, Any]) -> None:
    """Refuse what no property may say, whoever says it: a negative notice, a brake that never stops.

    Raises `RuleRefused`.
    """
    for key, (least, most) in BOUNDS.items():
        part, _, name = key.rpartition(".")
        held = body.get(part, {}) if part else body
        if not isinstance(held, Mapping):
            raise RuleRefused(part, "bounds")
        found = held.get(name, least)
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            raise RuleRefused(key, "bounds")


def refuse_unfair(rules: Rules, now_us: int) -> None:
    """Refuse rules that contradict themselves or one another, as a person may write them.

    ``window`` needs an hour within the next thirteen months in which a cut is permitted at all, or
    holds would never end; levels of a kind fall from one to the next; whoever no message reached is not
    cut sooner than who was warned. Raises `RuleRefused`.
    """
    if next_open_at_us(rules.supply.window, now_us) is None:
        raise RuleRefused("window", "no_hour")
    if rules.supply.trying_s < rules.supply.notice_s:
        raise RuleRefused("trying_s", "below_notice")
    for kind, amount in ((LevelKind.DAYS, "threshold_h"), (LevelKind.MONEY, "threshold_micro")):
        amounts = [getattr(each, amount) for each in rules.levels.levels if each.kind is kind]
        if any(later >= former for former, later in pairwise(amounts)):
            raise RuleRefused(f"levels.{kind.word}", "order")


def _tolerance_wh(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= 1_000_000:
        raise PolicyRefused("usage_while_open_wh: whole watt-hours from 0 to 1000000")
    return found


def _level(each: Mapping[str, Any]) -> Level:
    return Level(**{**each, "kind": LevelKind[str(each["kind"]).upper()]})
