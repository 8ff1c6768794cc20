"""Template tags of the fleet: chips of orders, bulks and gaps, and days as a picture; built in to every template."""

from __future__ import annotations

from collections.abc import Sequence

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext

from prewatt.core.vocabulary import BulkState, GapState
from prewatt.reports.fleet import FleetDay
from prewatt.reports.meter_orders import BulkRow, GapRow, MeterDay, OrderRow
from prewatt.web.ui import charts, fleet_words, sentences
from prewatt.web.ui import format as fmt
from prewatt.web.ui.tags import icon

register = template.Library()


def _chip(context: Context, look: tuple[str, str], word: object) -> SafeString:
    glyph, css = look
    return format_html('<span class="chip is-{}">{}{}</span>', css, icon(context, glyph), word)


@register.simple_tag(takes_context=True)
def told_chip(context: Context, row: OrderRow) -> SafeString:
    """Where an order stands, as glyph and word."""
    return _chip(context, fleet_words.ORDER_LOOK[row.state], fleet_words.ORDER_STATE[row.state])


@register.simple_tag(takes_context=True)
def bulk_chip(context: Context, row: BulkRow) -> SafeString:
    """Where a bulk stands, as glyph and word."""
    state = BulkState(row.state)
    return _chip(context, fleet_words.BULK_LOOK[state], fleet_words.BULK_STATE[state])


@register.simple_tag(takes_context=True)
def gap_chip(context: Context, row: GapRow) -> SafeString:
    """Where a gap stands, as glyph and word."""
    state = GapState(row.state)
    return _chip(context, fleet_words.GAP_LOOK[state], fleet_words.GAP_STATE[state])


@register.filter
def told_name(row: OrderRow) -> str:
    """What a meter is told or asked."""
    return str(fleet_words.ORDER_KIND[row.kind])


@register.filter
def told_why(row: OrderRow) -> str:
    """Why, in the words of who asked, or those of the rules."""
    if row.reason == "instruction":
        return str(fleet_words.SIGNED_WHY[row.kind])
    if row.reason in fleet_words.REASON:
        return str(fleet_words.REASON[row.reason])
    return row.reason if row.made_by else sentences.said(sentences.REASON, row.reason)


@register.filter
def told_result(row: OrderRow) -> str:
    """What came of it, where its state does not say it all."""
    if row.result in fleet_words.RESULT:
        return str(fleet_words.RESULT[row.result])
    return sentences.said(sentences.FAILURE, row.result)


@register.filter
def bulk_name(row: BulkRow) -> str:
    """What many meters are asked."""
    return str(fleet_words.REQUEST_KIND[row.kind])


@register.filter
def bulk_chosen(row: BulkRow) -> str:
    """By what its meters were chosen."""
    return fleet_words.chosen(row.chosen, get_language() or "en")


@register.filter
def bulk_pace(row: BulkRow) -> str:
    """How fast it goes."""
    return fleet_words.pace(row.per_s, row.per_gateway_min)


@register.filter
def gap_reason(row: GapRow) -> str:
    """Why nobody will fill it."""
    return str(fleet_words.GAP_REASON.get(row.reason, row.reason))


@register.filter
def percent_tenths(tenths: int) -> str:
    """`99.4 %`."""
    return f"{tenths // 10}.{tenths % 10} %"


@register.filter
def missing_share(row: MeterDay | FleetDay) -> str:
    """What came of what was promised, `95.8 %`."""
    return percent_tenths(1000 * min(row.stored, row.promised) // row.promised)


@register.simple_tag
def days_chart(days: Sequence[FleetDay | MeterDay]) -> SafeString:
    """What came each day of what was promised, from nothing to all; days with less than all say how much."""
    if not days:
        return SafeString("")
    lang = get_language() or "en"
    width, floor, tall = 760, 116.0, 96.0
    step = width / max(len(days), 14)
    marks: list[str] = []
    shares: list[int] = []
    for at, each in enumerate(days):
        x, share = at * step, 1000 * min(each.stored, each.promised) // each.promised
        shares.append(share)
        marks.append(charts.rect("rest", x + 2, floor - tall, step - 4, tall, "2"))
        if share:
            size = max(1.5, tall * share / 1000)
            marks.append(charts.rect("fill-in", x + 2, floor - size, step - 4, size, "2"))
        if share < 995:
            marks.append(charts.text("mid", x + step / 2, 13, f"{share // 10}"))
        if len(days) <= 16 or at % 2 == (len(days) - 1) % 2:
            marks.append(charts.text("mid", x + step / 2, floor + 18, each.day.day))
    marks.append(charts.line("axis", 0, floor, width, floor))
    worst = min(range(len(days)), key=shares.__getitem__)
    return charts.figure(
        marks, name="days", width=width, height=140,
        title=gettext("Readings that came, by day, in percent of those promised"),
        desc=gettext("From %(first)s to %(last)s; the least on %(worst)s: %(share)s.") % {
            "first": fmt.full_date(days[0].day, lang), "last": fmt.full_date(days[-1].day, lang),
            "worst": fmt.full_date(days[worst].day, lang), "share": percent_tenths(shares[worst]),
        },
    )  # fmt: skip
