"""Template tags for alerts; built in to every template (see ``web.settings``)."""

from __future__ import annotations

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from prewatt.reports.alerts import AlertRow
from prewatt.web.ui import alert_words
from prewatt.web.ui.alert_words import Speech
from prewatt.web.ui.tags import icon, tile

register = template.Library()


def _speech(context: Context) -> Speech:
    return Speech(context["place"], context["now"], get_language() or "en")


@register.filter
def alert_name(row: AlertRow) -> str:
    """What an alert is called."""
    return alert_words.name_of(row.code)


@register.filter
def alert_to_do(row: AlertRow) -> str:
    """What it asks of a person."""
    return alert_words.what_to_do(row)


@register.simple_tag(takes_context=True)
def alert_text(context: Context, row: AlertRow) -> str:
    """What happened, in one sentence."""
    return alert_words.what_happened(row, _speech(context))


@register.simple_tag(takes_context=True)
def alert_figures(context: Context, row: AlertRow) -> list[tuple[str, str, str]]:
    """(what, figure, when) of an alert that stands on figures."""
    return alert_words.figures(row, _speech(context))


@register.simple_tag(takes_context=True)
def alert_tile(context: Context, row: AlertRow) -> SafeString:
    """Its glyph on a tint while it is open, on a quiet one once it is closed."""
    glyph, css = alert_words.look_of(row.code)
    if row.closed_at is not None:
        css = "offline"
    return tile(context, glyph, css)


@register.simple_tag(takes_context=True)
def alert_chip(context: Context, row: AlertRow) -> SafeString:
    """Whether it is open, as glyph and word."""
    if row.closed_at is None:
        css, glyph, word = "low", "wait", alert_words.OPEN
    else:
        css, glyph, word = "on", "check", alert_words.CLOSED
    return format_html('<span class="chip is-{}">{}{}</span>', css, icon(context, glyph), str(word))
