"""The property's supply rules: read by everybody, proposed after a look, in force once others agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.core.levels import LEVELS_MAX, Level
from prewatt.core.vocabulary import LevelKind
from prewatt.reports.supply_rules import (
    RulesEffect,
    SupplyRulesPage,
    rules_effect,
    supply_rules_page,
)
from prewatt.supply.operations import SupplyRefused
from prewatt.supply.policy import BOUNDS, PolicyRefused, RuleRefused, Rules
from prewatt.supply.rules import REASON_MAX, drafted, wanted_rules
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import agreed_or_proposed, agreement_context
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import format as fmt
from prewatt.web.ui import rule_words
from prewatt.web.ui.hours_chart import hours_chart
from prewatt.web.ui.tags import calendar_day, lang

_TIME: Final = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])")
_LENGTH: Final = re.compile(r"[0-9]{1,7}")
_MINUTES_PER_DAY: Final = 24 * 60
#: A warning of so many days ahead is none; nor is one of more money than a recharge may be.
_DAYS_MAX: Final = 90
#: Rows for levels of a kind; more where a property has more.
_ROWS: Final = 3
#: The field of a rule that is refused.
_FIELD: Final = {
    "notice_s": "notice", "trying_s": "trying", "freshness_s": "fresh", "window": "opens",
    "reconnect_min_micro": "reconnect", "brake.window_s": "brake_window",
    "brake.cuts_max": "brake_cuts", "brake.share_bp": "brake_share",
    "levels.days": "days-1", "levels.money": "money-1",
}  # fmt: skip


def rules_view(request: HttpRequest) -> HttpResponse:
    """The rules in words and as a picture of the week."""
    page = supply_rules_page(actor=actor_of(request), now=clock.now())
    return deeds.show(
        request, "supply_rules", place=page.place, now=page.now, tab="supply-rules", page=page,
        parts=rule_words.parts(page.rules, lang()), done=request.GET.get("done", ""),
        chart=hours_chart(page.rules.supply.window, lang()),
        quiet=_quiet(page),
        holidays=fmt.listed([calendar_day(each) for each in page.holidays], lang()),
    )  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def change_view(request: HttpRequest) -> HttpResponse:
    """Other rules: written, looked at, then proposed with a second factor."""
    actor = actor_of(request)
    require(actor, "supply.rules")
    page = supply_rules_page(actor=actor, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    asked = Asked(request.POST)
    if asked.text("version") != str(page.version):
        return _show(request, page, None, problem=_stale(), status=409)
    body = _body(page, asked)
    why = asked.line("why", most=REASON_MAX, needed=True)
    do = asked.choice("do", ("edit", "look", "confirm"))
    if do == "edit":
        asked.faults.clear()
        return _show(request, page, asked)
    then = None if asked.faults else _drafted(request, page, asked, body)
    if then is None:
        return _show(request, page, asked, status=422)
    return _proposed(request, page, asked, body, why, then)


def _proposed(
    request: HttpRequest,
    page: SupplyRulesPage,
    asked: Asked,
    body: dict[str, Any],
    why: str,
    then: Rules,
) -> HttpResponse:
    """The look at what they would touch, and the press that proposes them."""
    actor = actor_of(request)
    effect = rules_effect(actor=actor, then=then, now=page.now)
    try:
        wanted = wanted_rules(
            actor=actor, property_id=page.place.property_id, version=page.version, body=body,
            now=page.now,
        )  # fmt: skip
    except SupplyRefused:
        # Whatever it was, it was somebody quicker: all else was looked at just now.
        now = supply_rules_page(actor=actor, now=clock.now())
        return _show(request, now, None, problem=_stale(), status=409)
    if asked.text("do") == "confirm":
        address = agreed_or_proposed(request, asked, wanted, why, page.now)
        if address is not None:
            return redirect(address)
    status = 422 if asked.faults else 200
    return _show(request, page, asked, then=then, effect=effect, wanted=wanted, status=status)


def _drafted(
    request: HttpRequest, page: SupplyRulesPage, asked: Asked, body: dict[str, Any]
) -> Rules | None:
    """The rules that the form asks for; None with a fault beside the field that is refused."""
    if body == page.body:
        asked.faults["why"] = _("Nothing differs from the rules that hold.")
        return None
    try:
        return drafted(
            actor=actor_of(request), property_id=page.place.property_id, body=body, now=page.now
        )
    except RuleRefused as refused:
        asked.faults[_FIELD.get(refused.place, "why")] = _refused(refused)
    except PolicyRefused:
        asked.faults["why"] = _("These rules contradict themselves. Nothing was changed.")
    return None


def _stale() -> str:
    return _(
        "Somebody changed the rules meanwhile. Nothing of yours was done; here is what holds now."
    )


def _refused(refused: RuleRefused) -> str:
    if refused.reason == "no_hour":
        return _("By these hours nobody could ever be cut: no permitted hour is left in the year.")
    if refused.reason == "below_notice":
        return _("Who could not be reached is not cut sooner than who was: at least the notice.")
    if refused.reason == "order":
        return _("Each of these must be less than the one before it.")
    return _("That is more or less than this rule may be.")


# --- the form ---


def _body(page: SupplyRulesPage, asked: Asked) -> dict[str, Any]:
    """What the rules would say: what was stored, with what the form has otherwise.

    What the form leaves as it is stays unsaid where it was, so that it goes on following the default.
    """
    rules, body = page.rules, dict(page.body)
    supply, window, brake = rules.supply, rules.supply.window, rules.brake

    def say(into: dict[str, Any], key: str, value: object, present: object) -> None:
        if value != present:
            into[key] = value

    say(body, "notice_s", _length(asked, "notice", "notice_s"), supply.notice_s)
    say(body, "trying_s", _length(asked, "trying", "trying_s"), supply.trying_s)
    say(body, "freshness_s", _length(asked, "fresh", "freshness_s"), supply.freshness_s)
    say(body, "reconnect_min_micro", _reconnect(asked, rules.currency), supply.reconnect_min_micro)
    say(
        body,
        "emergency_must_be_repaid",
        bool(asked.text("repaid")),
        supply.emergency_must_be_repaid,
    )
    hours: dict[str, Any] = dict(body.get("window", {}))
    opens, closes = _minute(asked, "opens"), _minute(asked, "closes")
    if opens >= closes and not {"opens", "closes"} & set(asked.faults):
        asked.faults["closes"] = _("The hours must end later than they begin, within one day.")
    say(hours, "opens_min", opens, window.opens_min)
    say(hours, "closes_min", closes, window.closes_min)
    days = [int(each) for each in asked.several("weekdays[]") if each in _WEEKDAYS]
    if not days:
        asked.faults["weekdays"] = _("Choose at least one day.")
    say(hours, "weekdays", sorted(set(days)), sorted(window.weekdays))
    lead_s = _length(asked, "lead", "", most_s=7 * rule_words.DAY_S)
    if lead_s % 60:
        asked.faults["lead"] = _("Write whole minutes.")
    say(hours, "rest_lead_min", lead_s // 60, window.rest_lead_min)
    stop: dict[str, Any] = dict(body.get("brake", {}))
    _least, most_cuts = BOUNDS["brake.cuts_max"]
    say(stop, "cuts_max", asked.whole("brake_cuts", least=1, most=most_cuts), brake.cuts_max)
    say(stop, "share_bp", _share(asked), brake.share_bp)
    say(stop, "window_s", _length(asked, "brake_window", "brake.window_s"), brake.window_s)
    body |= {key: part for key, part in (("window", hours), ("brake", stop)) if part}
    levels = _levels(rules, _days_left(asked, rules), _money_left(asked, rules))
    say(body, "levels", levels, _written(rules.levels.levels))
    return body


_WEEKDAYS: Final = tuple(str(each) for each in range(7))


def _length(asked: Asked, name: str, rule: str, *, most_s: int = 0) -> int:
    """A length of time in seconds, from its number and its unit, within the bounds of its rule."""
    least, most = BOUNDS.get(rule, (0, most_s))
    unit = rule_words.UNIT_S.get(asked.text(f"{name}_unit"))
    written = asked.text(name)
    found = int(written) * unit if unit and _LENGTH.fullmatch(written) else -1
    if not least <= found <= most:
        asked.faults[name] = _("Write a whole number: at least %(least)s, at most %(most)s.") % {
            "least": rule_words.length(least), "most": rule_words.length(most),
        }  # fmt: skip
        return least
    return found


def _reconnect(asked: Asked, currency: str) -> int:
    if not asked.text("reconnect"):
        return 0
    return asked.amount("reconnect", limit_micro=LIMIT_MICRO, currency=currency, allow_zero=True)


def _minute(asked: Asked, name: str) -> int:
    match = _TIME.fullmatch(asked.text(name))
    found = int(match[1]) * 60 + int(match[2]) if match else -1
    if not 0 <= found <= _MINUTES_PER_DAY:
        asked.faults[name] = _("Write a time such as 09:00; the day ends at 24:00.")
        return 0
    return found


def _share(asked: Asked) -> int:
    """Per cent of the supplies as ten-thousandths."""
    ppm = asked.percent("brake_share")
    if "brake_share" not in asked.faults and (ppm % 100 or not ppm):
        asked.faults["brake_share"] = _("Write per cent with at most two decimals, more than zero.")
    return ppm // 100


def _rows_of(rules: Rules, kind: LevelKind) -> int:
    return max(_ROWS, sum(each.kind is kind for each in rules.levels.levels))


def _days_left(asked: Asked, rules: Rules) -> list[int]:
    found: list[int] = []
    for name in _filled(asked, "days", _rows_of(rules, LevelKind.DAYS)):
        hours, rest = divmod((asked.thousandths(name) or 0) * 24, 1000)
        if rest or not 0 < hours <= _DAYS_MAX * 24:
            asked.faults[name] = _("Write days such as 3 or 2.5, at most %(most)s.") % {
                "most": _DAYS_MAX
            }
        elif found and hours >= found[-1]:
            asked.faults[name] = _("Each of these must be less than the one before it.")
        found.append(hours)
    return found


def _money_left(asked: Asked, rules: Rules) -> list[int]:
    found: list[int] = []
    for name in _filled(asked, "money", _rows_of(rules, LevelKind.MONEY)):
        amount = asked.amount(name, limit_micro=LIMIT_MICRO, currency=rules.currency)
        if name not in asked.faults and found and amount >= found[-1]:
            asked.faults[name] = _("Each of these must be less than the one before it.")
        found.append(amount)
    return found


def _filled(asked: Asked, kind: str, count: int) -> list[str]:
    """The fields of a kind of level that are filled in; none may be left out between two."""
    names = [f"{kind}-{number + 1}" for number in range(count)]
    filled = [bool(asked.text(name)) for name in names]
    for at in range(1, count):
        if filled[at] and not filled[at - 1]:
            asked.faults[names[at - 1]] = _("Fill this in first, or leave the next one empty.")
    return [name for name, is_filled in zip(names, filled, strict=True) if is_filled]


def _levels(rules: Rules, days_h: Sequence[int], money: Sequence[int]) -> list[dict[str, Any]]:
    """The levels as they are stored. A level keeps its number; a new one takes one that nobody had.

    A number says which warnings have been given, so another level must not inherit it.
    """
    old = rules.levels.levels
    free = iter([each for each in range(LEVELS_MAX) if each not in {x.level_no for x in old}])
    new: list[Level] = []
    for kind, amounts in ((LevelKind.DAYS, days_h), (LevelKind.MONEY, money)):
        own = [each for each in _falling(old) if each.kind is kind]
        for at, amount in enumerate(amounts):
            number = own[at].level_no if at < len(own) else next(free)
            is_days = kind is LevelKind.DAYS
            new.append(Level(number, kind, 0 if is_days else amount, amount if is_days else 0))
    return _written((*new, *(each for each in old if each.kind not in _AMOUNTS)))


_AMOUNTS: Final = {LevelKind.DAYS: "threshold_h", LevelKind.MONEY: "threshold_micro"}


def _falling(levels: Sequence[Level]) -> list[Level]:
    return sorted(levels, key=lambda each: (-each.threshold_h, -each.threshold_micro))


def _written(levels: Sequence[Level]) -> list[dict[str, Any]]:
    """Levels as the stored rules have them: days, money, then those without an amount."""
    order = [*_AMOUNTS, LevelKind.EMERGENCY, LevelKind.EXHAUSTED]
    return [
        {"level_no": each.level_no, "kind": each.kind.word}
        | (
            {_AMOUNTS[each.kind]: getattr(each, _AMOUNTS[each.kind])}
            if each.kind in _AMOUNTS
            else {}
        )
        for each in sorted(_falling(levels), key=lambda each: order.index(each.kind))
    ]


def _shown(page: SupplyRulesPage) -> dict[str, Any]:
    """The rules that hold, as the form shows them."""
    supply, brake = page.rules.supply, page.rules.brake
    window = supply.window
    values: dict[str, Any] = {
        "opens": f"{window.opens_min // 60:02d}:{window.opens_min % 60:02d}",
        "closes": f"{window.closes_min // 60:02d}:{window.closes_min % 60:02d}",
        "weekdays": [str(each) for each in sorted(window.weekdays)],
        "reconnect": export.decimal(supply.reconnect_min_micro)
        if supply.reconnect_min_micro
        else "",
        "repaid": "1" if supply.emergency_must_be_repaid else "",
        "brake_cuts": str(brake.cuts_max),
        "brake_share": fmt.percent(brake.share_bp * 100).removesuffix("%").strip(),
    }
    for name, seconds in (
        ("notice", supply.notice_s), ("trying", supply.trying_s), ("fresh", supply.freshness_s),
        ("lead", window.rest_lead_min * 60), ("brake_window", brake.window_s),
    ):  # fmt: skip
        count, unit = rule_words.split(seconds)
        values |= {name: str(count), f"{name}_unit": unit}
    for kind, name in ((LevelKind.DAYS, "days"), (LevelKind.MONEY, "money")):
        own = [each for each in _falling(page.rules.levels.levels) if each.kind is kind]
        for at, each in enumerate(own):
            values[f"{name}-{at + 1}"] = (
                f"{each.threshold_h / 24:g}"
                if kind is LevelKind.DAYS
                else export.decimal(each.threshold_micro)
            )
    return values


def _quiet(page: SupplyRulesPage) -> str:
    starts, ends = page.quiet_min
    return "" if starts == ends else fmt.minutes_of_day(starts, ends)


def _show(
    request: HttpRequest,
    page: SupplyRulesPage,
    asked: Asked | None,
    *,
    then: Rules | None = None,
    effect: RulesEffect | None = None,
    wanted: Wanted | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    values = _shown(page)
    if asked is not None:
        # A box that is not ticked is not sent: it must not fall back to what holds.
        values |= {"repaid": "", **asked.values, "weekdays": asked.several("weekdays[]")}
    sent = [
        (name, value) for name, value in values.items()
        if name not in _NOT_SENT and not isinstance(value, list)
    ]  # fmt: skip
    for secret in ("code", "passkey"):
        values.pop(secret, None)
    window = page.rules.supply.window
    return deeds.show(
        request, "supply_rules_change", place=page.place, now=page.now, tab="supply-rules",
        status=status, page=page, form=values, faults=asked.faults if asked else {}, problem=problem,
        then=then, effect=effect, sent=sent,
        differs=rule_words.differences(page.rules, then, lang()) if then else (),
        chart=hours_chart(then.supply.window, lang(), window) if then else "",
        parts=rule_words.parts(page.rules, lang()),
        weekdays=[(each, fmt.weekday_name(int(each), lang())) for each in _WEEKDAYS],
        days_rows=[f"days-{at + 1}" for at in range(_rows_of(page.rules, LevelKind.DAYS))],
        money_rows=[f"money-{at + 1}" for at in range(_rows_of(page.rules, LevelKind.MONEY))],
        **agreement_context(request, wanted),
    )  # fmt: skip


#: What the look does not carry on: secrets, and what each press says itself.
_NOT_SENT: Final = frozenset(
    {"csrfmiddlewaretoken", "do", "code", "passkey", "version", "weekdays", "weekdays[]"}
)
