"""Template tags and filters: the guide's formats with the page's language, time zone and now.

Built in to every template (see ``web.settings``). Formats that need the page take the context, in
which every page has ``place`` and ``now``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, ngettext

from prewatt.access.scope import Actor, may
from prewatt.core.civil_time import instant_us
from prewatt.core.money import format_price, rounding_of
from prewatt.core.rating import Component
from prewatt.core.vocabulary import BoardState, DeliveryState, OrderState
from prewatt.estate.worded import Worded
from prewatt.reports.account import AccountPage, CutHours, Entry, GateLine
from prewatt.reports.held import HeldPage
from prewatt.reports.today import BoardUnit, House, Place, Today
from prewatt.sign_in.sessions import named
from prewatt.web import clock as web_clock
from prewatt.web.ui import (
    approval_words,
    assets,
    audit_words,
    charts,
    icons,
    import_words,
    key_words,
    money_words,
    navigation,
    proposal_words,
    sentences,
    shipped_words,
    sign_in_words,
)
from prewatt.web.ui import format as fmt
from prewatt.web.ui.reading_chart import reading_chart

register = template.Library()


def lang() -> str:
    """The language of the page being rendered."""
    return get_language() or "en"


def _page(context: Context) -> tuple[Place, datetime]:
    return context["place"], context["now"]


def _symbols(context: Context) -> dict[str, bool]:
    """The icons used so far; one dictionary per rendering (``web.session.page_context``)."""
    used = context.get("symbols_used")
    return used if isinstance(used, dict) else {}


@register.simple_tag(takes_context=True)
def icon(context: Context, name: str) -> SafeString:
    """One icon, noted so that the sprite at the end of the page has its symbol."""
    _symbols(context)[name] = True
    return SafeString(icons.icon(name))


@register.simple_tag(takes_context=True)
def sprite(context: Context) -> SafeString:
    """The sprite of all icons used so far; the eight states are in it because pages live on."""
    return SafeString(icons.sprite({*_symbols(context), *icons.STATE_SYMBOLS, "check", "wait"}))


@register.simple_tag
def asset(name: str) -> str:
    """The address of a static file, with its digest, so that it may be cached for ever."""
    return assets.url(name)


@register.simple_tag(takes_context=True)
def sections(context: Context) -> list[navigation.Link]:
    """The entries of the bar."""
    return navigation.bar(str(context.get("tab", "")), context.get("actor"))


@register.simple_tag(takes_context=True)
def beside(context: Context) -> list[navigation.Link]:
    """The pages beside this one in its section."""
    actor = context.get("actor")
    return navigation.beside(str(context.get("tab", "")), actor) if actor is not None else []


@register.simple_tag(takes_context=True)
def section_name(context: Context) -> str:
    """The name of the section that this page is in."""
    return navigation.section_of(str(context.get("tab", "")))


@register.simple_tag(takes_context=True)
def state_chip(context: Context, state: BoardState) -> SafeString:
    """A state as glyph and word."""
    return _chip(context, state.word, state.word, str(sentences.STATE[state]))


@register.simple_tag(takes_context=True)
def order_chip(context: Context, state: OrderState) -> SafeString:
    """How far a supply order has come."""
    glyph, css = sentences.ORDER_LOOK[state]
    return _chip(context, glyph, css, str(sentences.ORDER_STATE[state]))


@register.simple_tag(takes_context=True)
def delivery_chip(context: Context, state: DeliveryState) -> SafeString:
    """Whether a message arrived."""
    glyph, css = sentences.DELIVERY_LOOK[state]
    return _chip(context, glyph, css, str(sentences.DELIVERY[state]))


def _chip(context: Context, glyph: str, css: str, text: str) -> SafeString:
    return format_html('<span class="chip is-{}">{}{}</span>', css, icon(context, glyph), text)


@register.simple_tag(takes_context=True)
def tile(context: Context, glyph: str, css: str) -> SafeString:
    """A glyph on a tinted tile, beside a word."""
    return format_html('<span class="tile is-{}">{}</span>', css, icon(context, glyph))


@register.simple_tag(takes_context=True)
def money(context: Context, micro: int | None, sign: bool = False) -> str:
    """An amount in the property's currency."""
    if micro is None:
        return ""
    currency = _page(context)[0].currency
    return fmt.signed_money(micro, currency) if sign else fmt.money(micro, currency)


@register.simple_tag(takes_context=True)
def big_money(context: Context, micro: int) -> SafeString:
    """An amount with the small quiet currency sign."""
    parts = fmt.money_parts(micro, _page(context)[0].currency)
    return format_html("{}<small>{}</small>{}", parts.sign, parts.currency, parts.digits)


@register.simple_tag
def rounding(total: int, *parts: int) -> int:
    """What a sum's own rounding adds to the rounded lines above it, in micro-units; mostly 0."""
    return rounding_of(total, parts)


@register.simple_tag
def rounding_in(total: int, rows: Iterable[Any], name: str) -> int:
    """The same for a column: ``{% rounding_in look.before look.lines "before" as rounded %}``."""
    return rounding_of(total, (getattr(each, name) for each in rows))


@register.simple_tag(takes_context=True)
def currency_sign(context: Context) -> str:
    """The sign or code of the property's currency."""
    return fmt.money_parts(0, _page(context)[0].currency).currency.strip()


@register.simple_tag(takes_context=True)
def price(context: Context, nano: int) -> str:
    """A price of one kilowatt-hour, four decimals or as many as it has."""
    return format_price(nano, currency=_page(context)[0].currency)


@register.simple_tag
def sentence_gap() -> str:
    """What stands between two sentences: a space, and nothing after a full-width stop."""
    return "" if fmt.is_chinese(lang()) else " "


@register.filter
def kwh(wh: int | None) -> str:
    """Energy with its unit."""
    return "" if wh is None else fmt.energy(wh, lang())


@register.filter
def kilowatts(watts: int) -> str:
    """Power: `25 kW`, `0.35 kW`."""
    whole, part = divmod(watts, 1000)
    digits = f"{whole:,}.{part:03d}".rstrip("0").rstrip(".")
    return f"{digits} kW"


@register.filter
def kwh_digits(wh: int | None) -> str:
    """Energy in kWh without its unit."""
    return "" if wh is None else fmt.energy_digits(wh)


@register.filter
def register_value(wh: int | None, unit: bool = False) -> str:
    """A register as its display shows it, with its unit when asked."""
    if wh is None:
        return ""
    return fmt.register(wh) + (f" {'度' if fmt.is_chinese(lang()) else 'kWh'}" if unit else "")


@register.simple_tag(takes_context=True)
def headline_time(context: Context) -> str:
    """The day and time that a page is about."""
    place, now = _page(context)
    return fmt.headline(now, place.time_zone, lang())


@register.simple_tag(takes_context=True)
def clock(context: Context, at: datetime | None, seconds: bool = False) -> str:
    """The local time of day."""
    if at is None:
        return ""
    zone = _page(context)[0].time_zone
    return fmt.clock_s(at, zone) if seconds else fmt.clock(at, zone)


@register.simple_tag(takes_context=True)
def stamp(context: Context, at: datetime | None, seconds: bool = False) -> str:
    """When something happened."""
    place, now = _page(context)
    return "" if at is None else fmt.stamp(at, now, place.time_zone, lang(), seconds=seconds)


@register.filter
def of_database(at: datetime | None) -> datetime | None:
    """An instant that the database's own clock gave, by the clock of the page."""
    return None if at is None else web_clock.of_database(at)


@register.simple_tag(takes_context=True)
def point(context: Context, at: datetime | None, long: bool = False) -> str:
    """A coming instant that is known."""
    place, now = _page(context)
    return "" if at is None else fmt.point(at, now, place.time_zone, lang(), long=long)


@register.simple_tag(takes_context=True)
def forecast(context: Context, at: datetime | None) -> str:
    """A coming instant that was estimated, in a column that says so."""
    place, now = _page(context)
    return "" if at is None else fmt.forecast(at, now, place.time_zone, lang())


@register.simple_tag(takes_context=True)
def about(context: Context, at: datetime | None, long: bool = False) -> str:
    """A coming instant that was estimated, said with "about"."""
    place, now = _page(context)
    return "" if at is None else fmt.about(at, now, place.time_zone, lang(), long=long)


@register.simple_tag(takes_context=True)
def ago(context: Context, at: datetime | None) -> str:
    """How long ago something was."""
    return "" if at is None else fmt.minutes_ago(at, _page(context)[1], lang())


@register.simple_tag(takes_context=True)
def day_stamp(context: Context, day: date) -> str:
    """A service day."""
    place, now = _page(context)
    return fmt.day_stamp(day, now, place.time_zone, lang())


@register.simple_tag(takes_context=True)
def full_date(context: Context, at: datetime | None) -> str:
    """A date with its year."""
    return (
        ""
        if at is None
        else fmt.full_date(fmt.local(at, _page(context)[0].time_zone).date(), lang())
    )


@register.simple_tag(takes_context=True)
def day_range(context: Context, span: tuple[date, date]) -> str:
    """A half-open range of service days."""
    place, now = _page(context)
    return fmt.day_range(span[0], span[1], now, place.time_zone, lang())


@register.filter
def at_us(at: datetime) -> int:
    """An instant as an address writes it: microseconds since 1970, UTC."""
    return instant_us(at)


@register.filter
def took(milliseconds: int) -> str:
    """A duration."""
    return fmt.took(milliseconds, lang())


@register.filter
def said(code: Any, table: str) -> str:
    """The text of a code: ``{{ order.reason|said:"REASON" }}``."""
    of_texts = (
        sentences,
        money_words,
        approval_words,
        key_words,
        proposal_words,
        shipped_words,
        sign_in_words,
        audit_words,
    )
    where = next(each for each in of_texts if hasattr(each, table))
    texts = getattr(where, table)
    if isinstance(code, str):
        return sentences.said(texts, code)
    return str(texts[code])


@register.filter
def browser_name(agent: str) -> str:
    """A browser and its system, of what it says of itself."""
    return named(agent) or "–"


@register.filter(name="may")
def may_do(actor: Actor | None, permission: str) -> bool:
    """Whether something is offered: ``{% if actor|may:"vending.take_back" %}``; operations decide."""
    return may(actor, permission)


@register.filter
def as_text(value: object) -> str:
    """A number as a form sends it, to compare it with what was sent."""
    return str(value)


@register.filter
def in_words(sentence: Worded) -> str:
    """What is wrong with a table, in the language of the page."""
    return import_words.in_words(sentence)


@register.filter
def grouped(number: int) -> str:
    """A count with marks at its thousands: `2,500`."""
    return f"{number:,}"


@register.filter
def share(ppm: int) -> str:
    """Parts per million as per cent."""
    return fmt.percent(ppm)


@register.filter
def unit_label(unit: BoardUnit) -> str:
    """What a screen reader adds to a window's number."""
    spoken = str(sentences.STATE_SPOKEN[unit.state])
    left = (
        ""
        if unit.state in (BoardState.VACANT, BoardState.CUT)
        else fmt.time_left(unit.hours_left, lang())
    )
    return ("，" if fmt.is_chinese(lang()) else ", ") + fmt.listed(
        filter(None, (spoken, left)), lang()
    )


@register.filter
def level(unit: BoardUnit) -> str:
    """The width of the line under a window's number, in days."""
    return f"{unit.level_tenths / 10:.1f}"


@register.filter
def kinds(house: House) -> str:
    """`8 shops · 6 booths`."""
    parts = []
    for kind, count in house.kinds:
        one, many = sentences.UNIT_KIND_COUNT.get(kind, (kind, kind))
        joint = " " if not fmt.is_chinese(lang()) else " 间" if kind != "flat" else " 套"
        parts.append(f"{count}{joint}{one if count == 1 else many}")
    return " · ".join(parts)


@register.filter
def floor_name(floor: int) -> str:
    """`8`, or `G` for the ground floor."""
    return str(floor) if floor else gettext("G")


@register.filter
def floor_label(floor: int) -> str:
    """`Floor 8`, `Ground floor`."""
    return gettext("Floor %(floor)s") % {"floor": floor} if floor else gettext("Ground floor")


@register.simple_tag(takes_context=True)
def flow_chart(context: Context, today: Today) -> SafeString:
    """The chart of money in and energy out."""
    return charts.flow_chart(today, lang())


@register.simple_tag(takes_context=True)
def balance_chart(context: Context, page: AccountPage) -> SafeString:
    """The chart of balance and usage."""
    return charts.balance_chart(page, lang())


@register.filter
def money_in(micro: int, currency: str) -> str:
    """An amount in a currency that is not the page's own."""
    return fmt.money(micro, currency)


@register.filter
def month_of_year(day: date) -> str:
    """`November 2026`."""
    return fmt.month_of_year(day, lang())


@register.filter
def month_name(day: date) -> str:
    """`November`."""
    return fmt.month_name(day, lang())


@register.filter
def weekday_letter(weekday: str) -> str:
    """`Mo`, `一`."""
    name = fmt.weekday_name(int(weekday), lang())
    return name[-1] if fmt.is_chinese(lang()) else name[:2]


@register.filter
def weekday_long(weekday: int) -> str:
    """`Monday`."""
    return fmt.weekday_name(weekday, lang())


@register.filter
def calendar_day(day: date) -> str:
    """`Tue 17 Nov 2026`: a day with its weekday and year."""
    if fmt.is_chinese(lang()):
        return f"{day.year}年{day.month}月{day.day}日 {fmt.day_name(day, lang())}"
    return f"{fmt.day_name(day, lang())} {fmt.date_text(day, lang())} {day.year}"


@register.simple_tag
def reading_picture(page: HeldPage) -> SafeString:
    """The chart of a held reading."""
    return reading_chart(page, lang())


@register.simple_tag(takes_context=True)
def gate_text(context: Context, line: GateLine) -> str:
    """One gate before a cut, with its figure."""
    place, now = _page(context)
    text = str((sentences.GATE_OPEN if line.open else sentences.GATE_CLOSED)[line.gate])
    figures = {"at": "", "amount": ""}
    if line.is_withheld:
        return gettext("A tamper case withholds supply")
    if line.at is not None:
        coming = line.at > now
        figures["at"] = (fmt.point if coming else fmt.stamp)(line.at, now, place.time_zone, lang())
    if line.amount_micro is not None:
        figures["amount"] = fmt.money(line.amount_micro, place.currency)
    return (text % figures).rstrip(" :：,，")


@register.filter
def cut_hours(hours: CutHours) -> str:
    """`Cuts only Mon to Fri, 09:00 to 15:00, never on holidays.`"""
    return gettext("Cuts only %(days)s, %(opens)s to %(closes)s, never on holidays.") % {
        "days": fmt.weekdays(hours.weekdays, lang()),
        "opens": f"{hours.opens_min // 60:02d}:{hours.opens_min % 60:02d}",
        "closes": f"{hours.closes_min // 60:02d}:{hours.closes_min % 60:02d}",
    }


@register.filter
def people_count(count: int, what: str) -> str:
    """Counts with their noun: ``{{ n|people_count:"recharges" }}``."""
    forms = {
        "recharges": ngettext("%(n)s recharge", "%(n)s recharges", count),
        "open": gettext("%(n)s open"),
        "meters": ngettext("%(n)s meter", "%(n)s meters", count),
        "units": ngettext("%(n)s unit", "%(n)s units", count),
        "accounts": ngettext("%(n)s account", "%(n)s accounts", count),
        "orders": ngettext("%(n)s order", "%(n)s orders", count),
        "messages": ngettext("%(n)s message", "%(n)s messages", count),
        "tries": ngettext("%(n)s try", "%(n)s tries", count),
    }
    return forms[what] % {"n": f"{count:,}"}


@register.filter
def band_energy(wh: dict[str, int], labels: dict[str, str]) -> str:
    """`night 1.6, day 4.3, peak 3.2`."""
    parts = [
        f"{labels.get(code, code).lower()} {fmt.energy_digits(used)}" for code, used in wh.items()
    ]
    return fmt.listed(parts, lang())


@register.simple_tag(takes_context=True)
def charge_parts(context: Context, parts: tuple[tuple[Component, int], ...]) -> str:
    """`Energy −€2.07, tax −€0.39.`; nothing for a charge of energy alone, whose sum says it."""
    if [component for component, _ in parts] == [Component.ENERGY]:
        return ""
    currency = _page(context)[0].currency
    said_parts = [
        f"{sentences.COMPONENT[component]} {fmt.money(micro, currency)}"
        for component, micro in parts
    ]
    return fmt.listed(said_parts, lang()) + gettext(".")


@register.simple_tag
def charge_url(account_id: int, entry: Entry) -> str:
    """Where a charge opens into its lines."""
    day = entry.service[0].isoformat() if entry.service else ""
    return f"/accounts/{account_id}/charges/{entry.event_id}/{entry.kind.value}/{day}"


@register.filter
def kwh_exact(wh: int) -> str:
    """Energy to the watt-hour, with its unit."""
    return fmt.energy_wh(wh, lang())


@register.filter
def item(mapping: dict[str, Any], key: str) -> Any:
    """One value of a mapping, zero when it is missing."""
    return mapping.get(key, 0)
