"""What changes between two versions of a tariff, in words: part, before, after, by how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from prewatt.core.money import format_price
from prewatt.core.tariff.words import factor_text
from prewatt.reports.tariff_changes import Change, Fact, Part, Shape
from prewatt.web.ui import format as fmt
from prewatt.web.ui import plan, sentences

_WORDS = {
    Part.STEP_KIND: sentences.STEP_KIND,
    Part.STEP_WINDOW: sentences.WINDOW,
    Part.STEP_SCOPE: sentences.STEP_SCOPE,
    Part.STEP_SCALE: sentences.SCALE,
    Part.STEP_TENANT: sentences.TENANT_CHANGE,
    Part.COLLECT: sentences.COLLECT,
    Part.TAX_FORM: sentences.TAX_FORM,
    Part.TAX_ON: sentences.TAXABLE_SAID,
    Part.ALLOWANCE_WINDOW: sentences.WINDOW,
}
_PER = frozenset(
    {Shape.DAILY_AMOUNT, Shape.MONTHLY_AMOUNT, Shape.YEARLY_AMOUNT, Shape.HOURLY_AMOUNT}
)
_TEXT_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One difference as a row: ``css`` is more, less or quiet."""

    part: str
    about: str
    before: str
    after: str
    change: str
    css: str


def lines(changes: tuple[Change, ...], currency: str, lang: str) -> list[Line]:
    """The differences as rows of a table."""
    return [_line(change, currency, lang) for change in changes]


def _line(change: Change, currency: str, lang: str) -> Line:
    fact = change.fact
    part, about = _named(fact, lang)
    before, after = (
        "–" if each is None else value_text(each, currency, lang)
        for each in (change.before, change.after)
    )
    dearer = change.is_dearer
    css = "quiet" if dearer is None else "more" if dearer else "less"
    return Line(part, about, before, after, _change_text(change), css)


def _named(fact: Fact, lang: str) -> tuple[str, str]:
    """(what it is about, what is added in a smaller line)."""
    part = str(sentences.PART[fact.part.value])
    about = [part]
    named = part
    if fact.label or fact.subject:
        own = fact.label or fact.subject
        named = sentences.band_name(fact.subject, own) if fact.label else own
    else:
        about = []
    if fact.season:
        about.append(plan.season_name(fact.season))
    if fact.step:
        about.append(_("step %(n)s") % {"n": fact.step})
    return named, fmt.listed(about, lang)


def _change_text(change: Change) -> str:
    if change.before is None:
        return _("new")
    if change.after is None:
        return _("gone")
    grown = change.change_ppm
    return _("changed") if grown is None else fmt.percent(grown, signed=True)


def value_text(fact: Fact, currency: str, lang: str) -> str:
    """A fact's value in words."""
    value: Any = fact.value
    if fact.part in _WORDS:
        words = value if isinstance(value, tuple) else (value,)
        return fmt.listed((sentences.said(_WORDS[fact.part], each) for each in words), lang)
    if fact.shape in _PER:
        return plan.amount_per(value, fact.shape.value, currency)
    if fact.part is Part.LET_SEASON:
        return fmt.grid_days(plan.season_ranges(value[0]), lang)
    return _SHAPED.get(fact.shape, _text)(value, currency, lang)


def _text(value: object, _currency: str, _lang: str) -> str:
    words = str(value)
    return words if len(words) <= _TEXT_SHOWN else f"{words[:_TEXT_SHOWN]}…"


def _dates(value: Any, _currency: str, lang: str) -> str:
    begin, end = ("" if day is None else fmt.full_date(day, lang) for day in value)
    if not end:
        return _("from %(day)s") % {"day": begin}
    return _("until %(day)s") % {"day": end} if not begin else f"{begin} – {end}"


def _members(value: Any, _currency: str, lang: str) -> str:
    included, added = value
    return _("above %(n)s persons %(added)s each") % {
        "n": included,
        "added": plan.limits_text(added, lang),
    }


def _ratchet(value: Any, _currency: str, _lang: str) -> str:
    share, months = value
    return ngettext("%(share)s of %(n)s month", "%(share)s of %(n)s months", months) % {
        "share": fmt.percent(share),
        "n": months,
    }


#: (value, currency, language) → words, for the shapes that need more than their value's own.
_SHAPED: dict[Shape, Callable[[Any, str, str], str]] = {
    Shape.PRICE: lambda value, currency, _lang: format_price(value, currency=currency),
    Shape.PER_KW: lambda value, currency, _lang: plan.amount(value, currency),
    Shape.AMOUNT: lambda value, currency, _lang: plan.amount(value, currency),
    Shape.ENERGY: lambda value, _currency, lang: fmt.energy_exact(value, lang),
    Shape.ENERGIES: lambda value, _currency, lang: plan.limits_text(value, lang) or _("no limit"),
    Shape.SHARE: lambda value, _currency, _lang: fmt.percent(value),
    Shape.FACTOR: lambda value, _currency, _lang: factor_text(value),
    Shape.MINUTES: lambda value, _currency, _lang: _("%(n)s minutes") % {"n": value},
    Shape.HOURS: lambda value, _currency, lang: plan.hours_words(value, lang),
    Shape.GRID_DAYS: lambda value, _currency, lang: fmt.grid_days(value, lang),
    Shape.GRID_DAY: lambda value, _currency, lang: fmt.grid_day(value, lang),
    Shape.DATES: _dates,
    Shape.MEMBERS: _members,
    Shape.RATCHET: _ratchet,
}
