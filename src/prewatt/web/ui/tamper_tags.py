"""Template tags for cases of tampering; built in to every template (see ``web.settings``)."""

from __future__ import annotations

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from prewatt.core.money import MINUS
from prewatt.reports.tamper import CaseRow, EvidenceRow
from prewatt.web.ui import tamper_words
from prewatt.web.ui.tags import icon, tile

register = template.Library()


@register.filter
def case_name(row: CaseRow) -> str:
    """What a case is about."""
    return str(tamper_words.KIND[row.kind])


@register.filter
def case_to_do(row: CaseRow) -> str:
    """What it asks of a person."""
    return str(tamper_words.TO_DO[row.kind])


@register.filter
def case_reason(row: CaseRow) -> str:
    """Why it was closed."""
    return str(tamper_words.REASON.get(row.close_reason, row.close_reason))


@register.filter
def case_response(row: CaseRow) -> str:
    """What was done about it by itself."""
    return "" if row.response is None else str(tamper_words.RESPONSE[row.response])


@register.filter
def case_kept(row: CaseRow) -> str:
    """Why less was done than the policy says."""
    return str(tamper_words.KEPT.get(row.response_kept, row.response_kept))


@register.filter
def seconds_off(seconds: int) -> str:
    """How far a clock is off: `+400 s`, `−150 s`."""
    return f"{'+' if seconds > 0 else MINUS if seconds < 0 else ''}{abs(seconds)} s"


@register.filter
def evidence_said(row: EvidenceRow) -> str:
    """What a piece of evidence says."""
    return tamper_words.evidence_text(row.code, row.detail, get_language() or "en")


@register.simple_tag(takes_context=True)
def case_tile(context: Context, row: CaseRow) -> SafeString:
    """Its glyph on a tint while it is open, on a quiet one once it is closed."""
    return tile(context, "tamper", "tamper" if row.is_open else "offline")


@register.simple_tag(takes_context=True)
def case_chip(context: Context, row: CaseRow) -> SafeString:
    """Whether it is open, as glyph and word."""
    glyph, css = tamper_words.STATE_LOOK[row.state]
    word = str(tamper_words.STATE[row.state])
    return format_html('<span class="chip is-{}">{}{}</span>', css, icon(context, glyph), word)
