"""Template tags for the form of a plan: fields by path, each with its own refusal beside it.

The context has ``form`` (`console.plan_state`) and ``refusal`` (`console.plan_fields`), None where the
form is a plan. Built in to every template, as ``tags`` is. Forms of one question each have ``faults`` instead, a sentence
for each field (`console.asked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django import template
from django.template.context import Context
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from prewatt.reports.lets import Register
from prewatt.web.ui import format as fmt
from prewatt.web.ui import refusals, sentences

register = template.Library()


@register.simple_tag(takes_context=True)
def field(
    context: Context,
    path: str,
    label: str,
    hint: str = "",
    kind: str = "text",
    *,
    bare: bool = False,
) -> SafeString:
    """An input with its label, hint and refusal; ``bare`` inside a table, whose head is the label."""
    value = _value(context, path)
    control = format_html(
        '<input class="input" id="{}" name="{}" value="{}" autocomplete="off"{}{}>',
        field_id(path),
        path,
        value,
        _KINDS[kind],
        _described(context, path, label if bare else "", bool(hint)),
    )
    return _framed(context, path, "" if bare else label, control, hint)


#: What a field is for the keyboard and the browser's own help.
_KINDS: Mapping[str, SafeString] = {
    "text": SafeString(""),
    "number": SafeString(' inputmode="decimal"'),
    "date": SafeString(' type="date"'),
    "time": SafeString(' type="datetime-local"'),
    "second": SafeString(' type="datetime-local" step="1"'),
    "password": SafeString(' type="password"'),
    "email": SafeString(' type="email"'),
}


@register.simple_tag(takes_context=True)
def area(context: Context, path: str, label: str, hint: str = "", rows: int = 2) -> SafeString:
    """A text of several lines; a plan's own texts are one line each, breaks become spaces."""
    control = format_html(
        '<textarea class="input" id="{}" name="{}" rows="{}"{}>{}</textarea>',
        field_id(path),
        path,
        rows,
        _described(context, path, "", bool(hint)),
        _value(context, path),
    )
    return _framed(context, path, label, control, hint)


@register.simple_tag(takes_context=True)
def choose(
    context: Context, path: str, label: str, options: Any, hint: str = "", *, bare: bool = False
) -> SafeString:
    """A choice among (value, text) pairs, or the codes of a table of sentences by its name."""
    value = _value(context, path)
    pairs = getattr(sentences, options).items() if isinstance(options, str) else options
    control = format_html(
        '<select class="input" id="{}" name="{}"{}>{}</select>',
        field_id(path),
        path,
        _described(context, path, label if bare else "", bool(hint)),
        _options(pairs, value),
    )
    return _framed(context, path, "" if bare else label, control, hint)


@register.simple_tag(takes_context=True)
def hidden(context: Context, path: str) -> SafeString:
    """A field that a look carries on."""
    return format_html('<input type="hidden" name="{}" value="{}">', path, _value(context, path))


@register.simple_tag(takes_context=True)
def length(context: Context, path: str, label: str, hint: str = "") -> SafeString:
    """A length of time: a whole number, and its unit in a field of its own beside it."""
    unit = f"{path}_unit"
    control = format_html(
        '<div class="length"><input class="input" id="{}" name="{}" value="{}" autocomplete="off"{}{}>'
        '<select class="input" id="{}" name="{}" aria-label="{}">{}</select></div>',
        field_id(path),
        path,
        _value(context, path),
        _KINDS["number"],
        _described(context, path, "", bool(hint)),
        field_id(unit),
        unit,
        gettext("Unit of: %(what)s") % {"what": label},
        _options(sentences.LENGTH_UNIT.items(), _value(context, unit)),
    )
    return _framed(context, path, label, control, hint)


@register.simple_tag(takes_context=True)
def register_field(context: Context, meter: Register) -> SafeString:
    """A meter's register in kWh, to be left empty where its last report is right."""
    known = "" if meter.value_wh is None else fmt.register(meter.value_wh)
    hint = (
        gettext("empty: as it reported, %(register)s") % {"register": known}
        if known
        else gettext("it has never reported: read it and write it down")
    )
    label = gettext("Register of %(meter)s, kWh") % {"meter": meter.serial}
    return field(context, f"register-{meter.meter_id}", label, hint, kind="number")


@register.simple_tag(takes_context=True)
def tick(context: Context, path: str, label: str) -> SafeString:
    """A box to tick; unticked it says nothing."""
    return format_html(
        '<label class="tick" for="{0}"><input type="checkbox" id="{0}" name="{1}" value="1"{2}{3}>{4}'
        "</label>{5}",
        field_id(path),
        path,
        SafeString(" checked") if _value(context, path) else "",
        _described(context, path, "", hint=False),
        label,
        fault(context, path),
    )


@register.simple_tag(takes_context=True)
def ticks(context: Context, path: str, label: str, options: Any) -> SafeString:
    """Boxes of which any number is ticked, sent together under one name."""
    chosen = _found(context, path)
    chosen = chosen if isinstance(chosen, list) else []
    pairs = getattr(sentences, options).items() if isinstance(options, str) else options
    boxes = format_html_join(
        "",
        '<label class="tick"><input type="checkbox" name="{}[]" value="{}"{}>{}</label>',
        (
            (path, value, SafeString(" checked") if value in chosen else "", text)
            for value, text in pairs
        ),
    )
    return format_html(
        '<fieldset class="field" id="{}"><legend>{}</legend><div class="row ticks">{}</div>{}</fieldset>',
        field_id(path),
        label,
        boxes,
        fault(context, path),
    )


@register.simple_tag(takes_context=True)
def radio(context: Context, path: str, value: str, label: str) -> SafeString:
    """One radio button of a table; its name is its row and column."""
    return format_html(
        '<input type="radio" name="{}" value="{}" aria-label="{}"{}>',
        path,
        value,
        label,
        SafeString(" checked") if _value(context, path) == str(value) else "",
    )


@register.simple_tag(takes_context=True)
def fault(context: Context, path: str) -> SafeString:
    """The refusal of this very field or part, if it is the one that is refused."""
    refusal = context.get("refusal")
    said_here = _fault_text(context, path)
    if said_here:
        return format_html('<p class="error" id="{}-why">{}</p>', field_id(path), said_here)
    if refusal is None or refusal.path != path or context.get("fresh"):
        return SafeString("")
    value = _found(context, path)
    said = refusals.sentence(refusal.reason, value if isinstance(value, str) else None)
    return format_html('<p class="error" id="{}-why">{}</p>', field_id(path), said)


@register.simple_tag(takes_context=True)
def day_value(context: Context, instant: datetime) -> str:
    """The local day of an instant as a field of a date sends it: `2026-12-01`."""
    return fmt.local(instant, context["place"].time_zone).date().isoformat()


@register.filter
def field_id(path: str) -> str:
    """The id of a field, by its path."""
    return f"f-{path.replace('.', '-')}"


@register.filter
def within(refusal: Any, parts: str) -> bool:
    """Whether a refusal lies in one of these parts (``"fees standing"``): such a part is open."""
    return refusal is not None and refusal.path.split(".")[0] in parts.split()


@register.simple_tag(takes_context=True)
def refusal_text(context: Context) -> str:
    """The refusal of the form in words, as its field says it too."""
    refusal = context["refusal"]
    value = None if refusal.path == "json" else _found(context, refusal.path)
    return refusals.sentence(refusal.reason, value if isinstance(value, str) else None)


@register.simple_tag
def join(*parts: object) -> str:
    """A path of its parts: ``{% join "bands" forloop.counter0 "label" as path %}``."""
    return ".".join(str(part) for part in parts)


@register.filter
def at(rows: Any, key: Any) -> Any:
    """An entry of a list or mapping."""
    return rows[key]


def _options(pairs: Iterable[tuple[Any, Any]], value: str) -> SafeString:
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        (
            (each, SafeString(" selected") if str(each) == value else "", text)
            for each, text in pairs
        ),
    )


def _fault_text(context: Context, path: str) -> str:
    """What is wrong with a field of a form that names all its faults at once (``console.asked``)."""
    faults = context.get("faults")
    return str(faults.get(path, "")) if isinstance(faults, Mapping) else ""


def _found(context: Context, path: str) -> Any:
    found: Any = context.get("form")
    for part in path.split("."):
        if isinstance(found, list):
            found = (
                found[int(part)]
                if part.isdecimal() and len(part) < 10 and int(part) < len(found)
                else ""
            )
        elif isinstance(found, Mapping):
            found = found.get(part, "")
        else:
            return ""
    return found


def _value(context: Context, path: str) -> str:
    found = _found(context, path)
    return found if isinstance(found, str) else ""


def _described(context: Context, path: str, label: str, hint: bool) -> SafeString:
    """The attributes that tie a control to its name, hint and refusal."""
    refusal = context.get("refusal")
    wrong = refusal is not None and refusal.path == path and not context.get("fresh")
    wrong = wrong or bool(_fault_text(context, path))
    name = field_id(path)
    tied = " ".join([*([f"{name}-hint"] if hint else ()), *([f"{name}-why"] if wrong else ())])
    return format_html(
        "{}{}{}",
        format_html(' aria-label="{}"', label) if label else "",
        format_html(' aria-describedby="{}"', tied) if tied else "",
        SafeString(' aria-invalid="true"') if wrong else "",
    )


def _framed(context: Context, path: str, label: str, control: SafeString, hint: str) -> SafeString:
    name = field_id(path)
    return format_html(
        '<div class="field">{}{}{}{}</div>',
        format_html('<label for="{}">{}</label>', name, label) if label else "",
        control,
        format_html('<p class="hint" id="{}-hint">{}</p>', name, hint) if hint else "",
        fault(context, path),
    )
