"""Template tags for the audit; built in to every template (see ``web.settings``)."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, ngettext

from prewatt.access.scope import may
from prewatt.reports.audit_trail import EventRow, Trail
from prewatt.reports.audit_watches import FindingRow, WatchRow, unseen_findings
from prewatt.web.ui import audit_words, charts
from prewatt.web.ui import format as fmt

register = template.Library()


def _speech(context: Context) -> tuple[str, str, str]:
    place = context["place"]
    return place.currency, place.time_zone, get_language() or "en"


@register.simple_tag(takes_context=True)
def unseen(context: Context) -> str:
    """How many findings wait for the auditor; empty for everybody else, and for none."""
    actor = context.get("actor")
    if actor is None or not may(actor, "audit.read"):
        return ""
    count = unseen_findings(actor)
    return "" if not count else "99+" if count > 99 else str(count)


@register.filter
def event_name(code: str) -> str:
    """What was done."""
    return audit_words.named(code)


@register.filter
def subject_kind(subject: str) -> str:
    """What kind of thing an event is about."""
    return audit_words.kind_of(subject)


@register.filter
def subject_page(subject: str) -> str:
    """The page of an object."""
    return audit_words.page_of(subject)


@register.filter
def subject_timeline(subject: str) -> str:
    """The timeline of an object."""
    return audit_words.timeline_of(subject)


@register.simple_tag(takes_context=True)
def event_told(context: Context, row: EventRow) -> str:
    """The figures of an event in one line."""
    return audit_words.told(row.detail, *_speech(context))


@register.simple_tag(takes_context=True)
def event_lines(context: Context, row: EventRow) -> list[tuple[str, str]]:
    """Everything an event says."""
    return audit_words.lines(row.detail, *_speech(context))


@register.simple_tag(takes_context=True)
def event_differences(context: Context, row: EventRow) -> list[audit_words.Difference]:
    """What an event changed."""
    return audit_words.differences(row.detail, *_speech(context))


@register.simple_tag(takes_context=True)
def finding_told(context: Context, row: FindingRow) -> str:
    """The figures of a finding in one line."""
    return audit_words.found(row, *_speech(context))


@register.simple_tag(takes_context=True)
def watch_figures(context: Context, row: WatchRow) -> list[tuple[str, str]]:
    """The figures of a watch with their names."""
    currency, _zone, _lang = _speech(context)
    written: list[tuple[str, str]] = []
    for each in row.kind.figures:
        value: Any = row.figures[each.name]
        text = (
            fmt.money(value, currency)
            if each.shape == "money"
            else f"{value // 60:02d}:{value % 60:02d}"
            if each.shape == "minutes"
            else (gettext("yes") if value else gettext("no"))
            if each.shape == "flag"
            else str(value)
        )
        written.append((audit_words.figure_name(row.kind.code, each.name), text))
    return written


@register.simple_tag
def audit_chart(trail: Trail) -> SafeString:
    """Events by day of the last two weeks, and by hour of the day beneath."""
    lang = get_language() or "en"
    width, floor, top = 600, 96.0, 84.0
    step = width / max(len(trail.days), 1)
    most = max((count for _, count in trail.days), default=0) or 1
    marks: list[str] = []
    for at, (day, count) in enumerate(trail.days):
        x = at * step
        if day.isoweekday() > 5:
            marks.append(charts.rect("rest", x, 4, step, floor - 4))
        if count:
            size = max(2.0, top * count / most)
            marks.append(charts.rect("fill-in", x + 4, floor - size, step - 8, size, "2"))
            marks.append(charts.text("mid", x + step / 2, floor - size - 4, count))
        marks.append(charts.text("mid", x + step / 2, floor + 18, day.day))
    marks.append(charts.line("axis", 0, floor, width, floor))
    total = sum(count for _, count in trail.days)
    return charts.figure(
        marks, name="audit-days", width=width, height=124,
        title=gettext("Events by day, the last two weeks"),
        desc=ngettext("%(n)s event between %(first)s and %(last)s.",
                      "%(n)s events between %(first)s and %(last)s.", total) % {
            "n": total, "first": fmt.full_date(trail.days[0][0], lang),
            "last": fmt.full_date(trail.days[-1][0], lang),
        },
    )  # fmt: skip


@register.simple_tag
def audit_hours(trail: Trail) -> SafeString:
    """Events by local hour of the day."""
    width, floor, top = 600, 64.0, 52.0
    step = width / 24
    most = max(trail.hours, default=0) or 1
    marks: list[str] = []
    for hour, count in enumerate(trail.hours):
        if count:
            size = max(2.0, top * count / most)
            marks.append(
                charts.rect("fill-out", hour * step + 3, floor - size, step - 6, size, "2")
            )
        if hour % 3 == 0:
            marks.append(charts.text("mid", hour * step + step / 2, floor + 18, f"{hour:02d}"))
    marks.append(charts.line("axis", 0, floor, width, floor))
    busiest = max(range(24), key=lambda hour: trail.hours[hour])
    return charts.figure(
        marks, name="audit-hours", width=width, height=92,
        title=gettext("The same by hour of the day"),
        desc=gettext("Most between %(from)s:00 and %(until)s:00.") % {
            "from": f"{busiest:02d}", "until": f"{busiest + 1:02d}"},
    )  # fmt: skip
