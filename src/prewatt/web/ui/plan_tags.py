"""Template tags for tariffs: the plan in words, its pictures, its differences.

Built in to every template, as ``tags`` is.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from prewatt.core.money import format_amount, format_price
from prewatt.core.price_rules import Outcome, Severity
from prewatt.core.tariff import Tariff
from prewatt.core.trial import Bin
from prewatt.reports.charge_page import ChargeLine, ChargePage, Corrected, Run
from prewatt.reports.tariff_changes import Change
from prewatt.reports.tariff_picture import BandTone, SeasonStairs, SeasonWeek, stairs_of, weeks_of
from prewatt.reports.tariff_trial import RuleLine
from prewatt.web.ui import charge_words, differences, plan, plan_charts, sentences
from prewatt.web.ui import format as fmt
from prewatt.web.ui.tags import lang, tile

register = template.Library()


@register.filter
def plan_sections(tariff: Tariff) -> tuple[plan.Section, ...]:
    """The plan in sentences."""
    return plan.sections(tariff, lang())


@register.filter
def plan_weeks(tariff: Tariff) -> list[dict[str, Any]]:
    """Each season's week with its title, its bands and whether it is worth a picture."""
    weeks = weeks_of(tariff)
    return [
        {
            "week": week,
            "name": str(week.season),
            "title": plan.season_title(tariff, week.season, lang()) if len(weeks) > 1 else "",
            "bands": [_band(tariff, week, tone) for tone in week.bands],
        }
        for week in weeks
    ]


@register.filter
def has_week(tariff: Tariff) -> bool:
    """Whether prices differ by time at all; a week of one colour says less than a sentence."""
    return len(tariff.bands) > 1


def _band(tariff: Tariff, week: SeasonWeek, tone: BandTone) -> dict[str, Any]:
    band = tariff.bands[tone.band]
    prices = [format_price(each, currency=tariff.currency) for each in band.prices_nano_per_kwh]
    return {
        "swatch": plan_charts.swatch(tone),
        "name": plan.band_names(tariff)[tone.band],
        "prices": prices,
        "hours": plan.hours_text(tariff, week.season, tone.band, lang()),
    }


@register.simple_tag
def week_chart(
    tariff: Tariff, week: SeasonWeek, before: Tariff | str = "", name: str = ""
) -> SafeString:
    """A season's week as a heat map; what differs from ``before`` is outlined."""
    changed: tuple[plan_charts.Changed, ...] = ()
    if isinstance(before, Tariff):
        changed = plan_charts.changed_hours(before, tariff, week.season)
    return plan_charts.week_chart(tariff, week, lang(), name or str(week.season), changed)


@register.filter
def plan_stairs(tariff: Tariff) -> list[dict[str, Any]]:
    """The steps as stairs, with the seasons that they hold in, and as a table."""
    found = stairs_of(tariff)
    return [
        {
            "stairs": each,
            "name": str(number),
            "title": fmt.listed(
                (plan.season_title(tariff, season, lang()) for season in each.seasons), lang()
            )
            if len(found) > 1
            else "",
            "table": _stair_table(tariff, each),
        }
        for number, each in enumerate(found)
    ]


def _stair_table(tariff: Tariff, stairs: SeasonStairs) -> list[dict[str, Any]]:
    """A row for each band: its name and, for each step, until where at which price."""
    names = plan.band_names(tariff)
    return [
        {
            "swatch": plan_charts.swatch(stair.tone),
            "name": names[stair.tone.band],
            "treads": [
                {
                    "until": ""
                    if tread.until_wh is None
                    else fmt.energy_exact(tread.until_wh, lang()),
                    "price": format_price(tread.price_nano_per_kwh, currency=tariff.currency),
                }
                for tread in stair.treads
            ],
        }
        for stair in stairs.stairs
    ]


@register.filter
def plan_counting(tariff: Tariff) -> str:
    """From when steps count and what their limits are multiplied by."""
    return plan.counting(tariff, lang())


@register.simple_tag
def stairs_chart(tariff: Tariff, stairs: SeasonStairs, name: str) -> SafeString:
    """The steps of some seasons as a picture."""
    return plan_charts.stairs_chart(tariff, stairs, lang(), name)


@register.simple_tag
def effect_chart(bins: tuple[Bin, ...]) -> SafeString:
    """Accounts by how much their charge changes."""
    return plan_charts.effect_chart(bins, lang())


@register.filter
def bin_name(each: Bin) -> str:
    """A column of the effect chart."""
    return plan_charts.bin_name(each)


@register.simple_tag
def difference_lines(changes: tuple[Change, ...], currency: str) -> list[differences.Line]:
    """What changes, as rows."""
    return differences.lines(changes, currency, lang())


@register.filter
def plan_traits(tariff: Tariff) -> str:
    """What a plan has, in a few words: `2 seasons, 4 bands, 3 steps, tax`."""
    steps = max(len(band.prices_nano_per_kwh) for band in tariff.bands)
    counted = (
        (len(tariff.seasons), ngettext("%(n)s season", "%(n)s seasons", len(tariff.seasons))),
        (len(tariff.bands), ngettext("%(n)s band", "%(n)s bands", len(tariff.bands))),
        (steps, ngettext("%(n)s step", "%(n)s steps", steps)),
    )
    traits = [text % {"n": n} for n, text in counted if n > 1]
    parts = (
        (tariff.dated, gettext("standing charge")),
        (tariff.usage_fees, gettext("fee")),
        (tariff.minimum, gettext("minimum")),
        (tariff.demand, gettext("demand")),
        (tariff.taxes, gettext("tax")),
        (tariff.allowances, gettext("free energy or rebate")),
        (tariff.overlays, gettext("announced prices")),
        (tariff.debt, gettext("debt recovery")),
        (tariff.temporary, gettext("ends by itself")),
    )
    traits += [text for part, text in parts if part]
    return fmt.listed(traits or [gettext("one price")], lang())


@register.filter
def code_path(code: str) -> str:
    """A tariff's code as a part of an address."""
    return quote(code, safe="")


@register.filter
def person(name: str) -> str:
    """Who did something; a part of the program such as `system:supply` in words."""
    kind, colon, own = name.partition(":")
    if not colon:
        return name
    part = sentences.said(sentences.PROGRAM, own) if own in sentences.PROGRAM else own
    if kind == "system":
        return gettext("Program: %(part)s") % {"part": part}
    return f"{part.replace('-', ' ')} ({kind})"


@register.filter
def percent(ppm: int) -> str:
    """A share."""
    return fmt.percent(ppm)


@register.filter
def change_percent(ppm: int | None) -> str:
    """A change, with its sign."""
    return "" if ppm is None else fmt.percent(ppm, signed=True)


@register.filter
def rule_text(rule: RuleLine) -> str:
    """What a rule of the place asks: in the page's language, or as its pack says it."""
    return str(sentences.RULE.get(rule.code, rule.text))


@register.simple_tag(takes_context=True)
def rule_tile(context: Context, rule: RuleLine) -> SafeString:
    """How a draft stands to a rule, as a glyph."""
    if rule.outcome is None and rule.is_looked_at:
        return tile(context, "check", "on")
    if rule.outcome in (None, Outcome.UNKNOWN):
        return tile(context, "offline", "offline")
    return tile(context, "tamper", "tamper" if rule.severity is Severity.REFUSE else "low")


@register.simple_tag(takes_context=True)
def rule_state(context: Context, rule: RuleLine) -> str:
    """How a draft stands to a rule, in words with its figure."""
    if not rule.is_looked_at:
        return str(sentences.RULE_STATE["not_looked_at"])
    if rule.outcome is None:
        return str(sentences.RULE_STATE["holds"])
    if rule.outcome is Outcome.UNKNOWN:
        return fmt.listed(
            [sentences.said(sentences.RULE_STATE, "unknown")]
            + ([sentences.said(sentences.RULE_WHY, rule.why)] if rule.why else []),
            lang(),
        )
    said = str(sentences.RULE_STATE[f"broken_{rule.severity.value}"])
    if rule.measured_ppm is None:
        return said
    return gettext("%(said)s, at worst %(measured)s where %(limit)s is allowed") % {
        "said": said,
        "measured": fmt.percent(round(rule.measured_ppm, -3)),
        "limit": fmt.percent(rule.at_most_ppm),
    }


@register.simple_tag(takes_context=True)
def amount_per(context: Context, nano: int, per: str) -> str:
    """An amount by the time that it is for, as a plan writes it: `€0.35 a day`."""
    return plan.amount_per(nano, per, context["place"].currency)


@register.filter
def left_out(parts: tuple[str, ...]) -> str:
    """Parts of the plan that a trial does not look at."""
    return fmt.listed((sentences.said(sentences.LEFT_OUT, part) for part in parts), lang())


@register.filter
def long_day(day: date | None) -> str:
    """A local day with its year."""
    return "" if day is None else fmt.full_date(day, lang())


@register.filter
def last_day(until: date) -> str:
    """The last day before a half-open end, with its year."""
    return fmt.full_date(until - timedelta(days=1), lang())


@register.simple_tag(takes_context=True)
def charge_line(context: Context, line: ChargeLine) -> str:
    """A line of a charge in words."""
    return charge_words.line_text(line, context["place"].currency, lang())


@register.simple_tag(takes_context=True)
def run_text(context: Context, run: Run, page: ChargePage) -> str:
    """Band, step and price of some readings."""
    tariff = page.tariffs.get(run.version_id)
    return charge_words.run_text(run, tariff, context["place"].currency, lang())


@register.simple_tag(takes_context=True)
def exact_money(context: Context, micro: int, sign: bool = False) -> str:
    """An amount with every decimal that it has, so that lines add up by eye."""
    currency = context["place"].currency
    digits = next(d for d in (2, 3, 4, 5, 6) if micro % 10 ** (6 - d) == 0)
    plus = "+" if sign and micro > 0 else ""
    return plus + format_amount(micro, currency=currency, digits=digits)


@register.simple_tag(takes_context=True)
def run_hours(context: Context, run: Run) -> str:
    """`06:00–17:00`; the end of a day is 24:00."""
    zone = context["place"].time_zone
    ends = fmt.clock(run.until_at, zone)
    return f"{fmt.clock(run.from_at, zone)}–{'24:00' if ends == '00:00' else ends}"


@register.filter
def corrected_text(line: Corrected) -> str:
    """What a correction is about."""
    return charge_words.corrected_text(line, lang())
