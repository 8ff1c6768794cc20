"""Supply rules in words that a manager understands: a line for each rule, the same before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from prewatt.core.levels import Level
from prewatt.core.vocabulary import LevelKind
from prewatt.supply.policy import Rules
from prewatt.web.ui import format as fmt

DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60
#: A length of time as a form has it: a whole number of one of these.
UNIT_S: Final = {"d": DAY_S, "h": HOUR_S, "min": MINUTE_S, "s": 1}
#: A length is said in days from here on; below, `48 hours` says more than `2 days`.
_DAYS_FROM: Final = 2 * DAY_S


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule: what it is called, what it says, and what follows from it."""

    name: str
    value: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Rules that belong together, under one heading."""

    title: str
    lines: tuple[RuleLine, ...]


@dataclass(frozen=True, slots=True)
class Differs:
    """A rule that a change makes another."""

    name: str
    before: str
    after: str


def split(seconds: int) -> tuple[int, str]:
    """A length as a number of the largest unit that divides it: (4, "h")."""
    unit = (
        next(each for each, size in UNIT_S.items() if seconds % size == 0 and seconds >= size)
        if (seconds)
        else "h"
    )
    if unit == "d" and seconds < _DAYS_FROM:
        unit = "h"
    return seconds // UNIT_S[unit], unit


def length(seconds: int) -> str:
    """`4 hours`, `30 seconds`, `3 days`: exact, in the largest unit that divides it."""
    count, unit = split(seconds)
    return {
        "d": ngettext("%(n)s day", "%(n)s days", count),
        "h": ngettext("%(n)s hour", "%(n)s hours", count),
        "min": ngettext("%(n)s minute", "%(n)s minutes", count),
        "s": ngettext("%(n)s second", "%(n)s seconds", count),
    }[unit] % {"n": count}


def parts(rules: Rules, lang: str) -> tuple[Part, ...]:
    """All rules that a person may change, in the order in which a cut comes about."""
    return (
        Part(_("Warnings"), _warnings(rules, lang)),
        Part(_("Hours for cuts"), _hours(rules, lang)),
        Part(_("Before a cut"), _gates(rules)),
        Part(_("Connecting again"), _connecting(rules)),
    )


def differences(before: Rules, after: Rules, lang: str) -> tuple[Differs, ...]:
    """The rules that say something else after a change."""
    old = [each for part in parts(before, lang) for each in part.lines]
    new = [each for part in parts(after, lang) for each in part.lines]
    return tuple(
        Differs(was.name, was.value, now.value)
        for was, now in zip(old, new, strict=True)
        if was.value != now.value
    )


def _warnings(rules: Rules, lang: str) -> tuple[RuleLine, ...]:
    supply = rules.supply
    named = [_level(each, rules.currency) for each in _ordered(rules)]
    notice = length(supply.notice_s) if supply.notice_s else _("none")
    return (
        RuleLine(
            _("Customers are warned"),
            fmt.listed(named, lang),
            _("Each of these is one message. It comes again only after the balance has risen."),
        ),
        RuleLine(
            _("Notice before a cut"),
            notice,
            _("Counts from the first warning that was delivered since the balance became low.")
            if supply.notice_s
            else _("A warning and a cut can come in the same minute."),
        ),
        RuleLine(
            _("Where no message arrives"),
            _("cut after %(length)s of trying every channel") % {"length": length(supply.trying_s)},
            _("Who has no address at all is not cut before there is one."),
        ),
    )


def _ordered(rules: Rules) -> list[Level]:
    order = (LevelKind.DAYS, LevelKind.MONEY, LevelKind.EMERGENCY, LevelKind.EXHAUSTED)
    return sorted(
        rules.levels.levels,
        key=lambda each: (order.index(each.kind), -each.threshold_h, -each.threshold_micro),
    )


def _level(level: Level, currency: str) -> str:
    match level.kind:
        case LevelKind.DAYS:
            return _("with %(length)s left") % {"length": length(level.threshold_h * HOUR_S)}
        case LevelKind.MONEY:
            return _("at %(amount)s") % {"amount": fmt.money(level.threshold_micro, currency)}
        case LevelKind.EMERGENCY:
            return _("when emergency credit begins")
        case LevelKind.EXHAUSTED:
            return _("when everything is used up")


def _hours(rules: Rules, lang: str) -> tuple[RuleLine, ...]:
    window = rules.supply.window
    hours = fmt.minutes_of_day(window.opens_min, window.closes_min)
    days = fmt.day_kinds(window.weekdays, lang)
    lead = window.rest_lead_min * MINUTE_S
    return (
        RuleLine(
            _("Cuts are permitted"),
            _("%(days)s, %(hours)s") % {"days": days, "hours": hours},
            _("Never on a holiday. Supply is connected at any hour."),
        ),
        RuleLine(
            _("Before a day without cuts"),
            _("no cut in the last %(length)s") % {"length": length(lead)}
            if lead
            else _("as usual"),
            "" if lead else _("A cut on the last permitted day can last until a person pays."),
        ),
    )


def _gates(rules: Rules) -> tuple[RuleLine, ...]:
    brake = rules.brake
    return (
        RuleLine(
            _("The newest reading is at most"),
            _("%(length)s old") % {"length": length(rules.supply.freshness_s)},
            _("Nobody is cut by what a meter said long ago."),
        ),
        RuleLine(
            _("Mass-cut brake"),
            _("at most %(cuts)s cuts, or %(share)s of the supplies, within %(length)s")
            % {
                "cuts": brake.cuts_max,
                "share": fmt.percent(brake.share_bp * 100),
                "length": length(brake.window_s),
            },
            _("What is more stops all cuts until two people release them."),
        ),
    )


def _connecting(rules: Rules) -> tuple[RuleLine, ...]:
    least = rules.supply.reconnect_min_micro
    repaid = rules.supply.emergency_must_be_repaid
    return (
        RuleLine(
            _("Emergency credit"),
            _("has to be repaid before supply is connected")
            if repaid
            else _("is enough to be connected with"),
        ),
        RuleLine(
            _("Least credit to be connected"),
            fmt.money(least, rules.currency) if least else _("any"),
            _("Counted from zero.") if repaid else _("Counted from the end of emergency credit."),
        ),
    )
