"""What a fitted device has said, in words; built in to every template (see ``web.settings``)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from django import template
from django.template.context import Context
from django.utils.translation import gettext, ngettext

from prewatt.core.vocabulary import RelayState
from prewatt.moves.first_contact import Contact, Mark
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences
from prewatt.web.ui.tags import icon, lang, register_value

register = template.Library()

#: The glyph of each mark: a tick is never shown on hope.
_GLYPH: Final = {Mark.GOOD: "check", Mark.BAD: "tamper", Mark.WAITS: "wait", Mark.NONE: "vacant"}
Stamp = Callable[[datetime], str]
Line = tuple[str, str, str, str]
"""Its glyph, what is asked, how it stands as a word, and what is known of it."""


@register.simple_tag(takes_context=True)
def contact_lines(context: Context, contact: Contact) -> list[Line]:
    """Every question about a fitted device with its answer so far."""
    now, zone = context["now"], context["place"].time_zone
    for glyph in _GLYPH.values():
        # The page is live: each can follow another.
        icon(context, glyph)

    def stamp(at: datetime) -> str:
        return fmt.stamp(at, now, zone, lang(), seconds=True)

    return [
        _line(contact.heard, gettext("Heard"), _heard(contact, stamp)),
        _line(contact.counts, gettext("Its register goes forward"), _counts(contact, stamp)),
        _line(contact.clock, gettext("Its clock is right"), _clock(contact)),
        _line(contact.switch, gettext("Its relay was read"), _relay(contact, stamp)),
        _line(contact.key, gettext("Its key answers"), _key(contact, stamp)),
    ]


@register.filter
def contact_missing(contact: Contact) -> str:
    """What a device that was heard has not answered yet, or answered wrongly."""
    names = (
        gettext("heard"), gettext("register"), gettext("clock"), gettext("relay"), gettext("key"),
    )  # fmt: skip
    open_ = [
        name for name, mark in zip(names, contact.marks, strict=True)
        if mark in (Mark.BAD, Mark.WAITS)
    ]  # fmt: skip
    return gettext("missing: %(what)s") % {"what": gettext(", ").join(open_)}


def _line(mark: Mark, name: str, text: str) -> Line:
    return _GLYPH[mark], name, sentences.said(sentences.MARK, mark.value), text


def _heard(contact: Contact, stamp: Stamp) -> str:
    if contact.heard_at is None:
        if contact.concentrator:
            return gettext("Not yet; concentrator %(serial)s speaks for it.") % {
                "serial": contact.concentrator
            }
        return gettext("Not yet.")
    firmware = f" · {contact.firmware}" if contact.firmware else ""
    return stamp(contact.heard_at) + firmware


def _counts(contact: Contact, stamp: Stamp) -> str:
    if contact.held:
        return ngettext(
            "%(n)d reading is held: look at it under Held readings.",
            "%(n)d readings are held: look at them under Held readings.",
            contact.held,
        ) % {"n": contact.held}
    if contact.last_at is None:
        return gettext("No reading yet.")
    last = {"register": register_value(contact.last_wh, unit=True), "at": stamp(contact.last_at)}
    if contact.counts is Mark.GOOD:
        return gettext("It stands at %(register)s, %(at)s.") % last
    return (
        gettext("It stands at %(register)s, %(at)s. Switch something on and wait for the next.")
        % last
    )


def _clock(contact: Contact) -> str:
    if contact.clock_drift_s is None or contact.heard_at is None:
        return gettext("It has not said its time yet.")
    if contact.clock is Mark.GOOD:
        return gettext("Within %(n)s seconds.") % {"n": max(abs(contact.clock_drift_s), 1)}
    drift = contact.clock_drift_s
    text = gettext("%(n)s seconds ahead.") if drift > 0 else gettext("%(n)s seconds behind.")
    return text % {"n": abs(drift)}


def _relay(contact: Contact, stamp: Stamp) -> str:
    if not contact.has_relay:
        return gettext("It has none.")
    if contact.switch is not Mark.GOOD or contact.relay_read_at is None:
        return gettext("Its state was not read yet.")
    text = (
        gettext("Open, %(at)s.") if contact.relay is RelayState.OPEN else gettext("Closed, %(at)s.")
    )
    return text % {"at": stamp(contact.relay_read_at)}


def _key(contact: Contact, stamp: Stamp) -> str:
    if contact.has_key and contact.certificate not in ("revoked", "expired"):
        if contact.key is Mark.GOOD and contact.answered_at is not None:
            return gettext("It signed an answer, %(at)s.") % {"at": stamp(contact.answered_at)}
        return gettext("Its key is known; it has not signed an answer yet.")
    return sentences.said(sentences.LET_IN, contact.certificate)
