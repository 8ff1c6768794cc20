"""What meters are asked, what came of it, and gaps, in people's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from prewatt.core.vocabulary import BulkState, GapState, RequestKind, RequestState
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences

Text = str | Promise

REQUEST_KIND: Final[Mapping[RequestKind, Text]] = {
    RequestKind.READ: _("Read now"),
    RequestKind.HISTORY: _("Send the history"),
    RequestKind.CLOCK: _("Put the clock right"),
    RequestKind.VERSION: _("Say the firmware"),
    RequestKind.RECONNECT: _("Connect again what stands"),
}
#: What one meter is asked by hand.
ASKED: Final = (RequestKind.READ, RequestKind.HISTORY, RequestKind.CLOCK, RequestKind.VERSION)
#: All orders to meters, in the list of them.
ORDER_KIND: Final[Mapping[str, Text]] = {
    "connect": _("Connect"),
    "disconnect": _("Disconnect"),
    **{each.word: text for each, text in REQUEST_KIND.items()},
    "credit": _("Signed credit"),
    "release": _("Signed release"),
    "state": _("Signed state"),
    "set_clock": _("Signed clock"),
    "keys": _("Signed keys"),
    "limit": _("Signed power limit"),
}
ORDER_STATE: Final[Mapping[str, Text]] = {
    "waiting": _("Waits"),
    "sent": _("Sent, not answered"),
    "done": _("Done"),
    "failed": _("Failed"),
    "ended": _("Called off"),
}
#: The glyph and tint of each.
ORDER_LOOK: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": ("wait", "vacant"),
    "sent": ("wait", "protected"),
    "done": ("check", "on"),
    "failed": ("offline", "low"),
    "ended": ("vacant", "vacant"),
}
ORDER_SHOW: Final[Mapping[str, Text]] = {
    "all": _("All orders"),
    "open": _("Under way"),
    "done": _("Done"),
    "failed": _("Failed"),
}
ORDER_SORT: Final[Mapping[str, Text]] = {
    "latest": _("Latest first"),
    "oldest": _("Oldest first"),
}
BULK_LOOK: Final[Mapping[BulkState, tuple[str, str]]] = {
    BulkState.RUNNING: ("wait", "protected"),
    BulkState.PAUSED: ("wait", "low"),
    BulkState.BRAKED: ("stop", "low"),
    BulkState.STOPPED: ("stop", "vacant"),
    BulkState.DONE: ("check", "on"),
}
GAP_LOOK: Final[Mapping[GapState, tuple[str, str]]] = {
    GapState.OPEN: ("wait", "low"),
    GapState.FILLED: ("check", "on"),
    GapState.GIVEN_UP: ("offline", "offline"),
}
KIND_OF: Final = {each.word: each for each in RequestKind}
REQUEST_STATE: Final[Mapping[RequestState, Text]] = {
    RequestState.WAITING: _("Waits"),
    RequestState.SENT: _("Sent"),
    RequestState.ANSWERED: _("Answered"),
    RequestState.REFUSED: _("Refused"),
    RequestState.GIVEN_UP: _("Given up"),
    RequestState.CANCELLED: _("Called off"),
}
BULK_STATE: Final[Mapping[BulkState, Text]] = {
    BulkState.RUNNING: _("Runs"),
    BulkState.PAUSED: _("Paused"),
    BulkState.BRAKED: _("Stopped by itself"),
    BulkState.STOPPED: _("Stopped"),
    BulkState.DONE: _("Done"),
}
GAP_STATE: Final[Mapping[GapState, Text]] = {
    GapState.OPEN: _("Missing"),
    GapState.FILLED: _("Filled"),
    GapState.GIVEN_UP: _("Given up"),
}
GAP_REASON: Final[Mapping[str, Text]] = {
    "": "",
    "no_history": _("Its radio keeps no history that could be asked for."),
    "unsupported": _("It says that it keeps no history."),
    "no_answer": _("It was asked again and again and did not answer."),
    "not_kept": _("It sent what it had; these were not among it."),
}
#: Why nobody in particular asked.
REASON: Final[Mapping[str, Text]] = {
    "gap": _("Readings are missing."),
}
#: Why a meter is told by signature what no order of supply asks for, by `ORDER_KIND`.
SIGNED_WHY: Final[Mapping[str, Text]] = {
    "credit": _("A meter that holds its credit is told of it."),
    "release": _("It is to hold no credit any more."),
    "state": _("It is asked how it stands before it is told more."),
    "set_clock": _("Its clock was off."),
    "keys": _("It is to trust the newest instruction key."),
    "limit": _("Its power is limited, or is so no more."),
}
RESULT: Final[Mapping[str, Text]] = {
    "": "",
    "ok": "",
    "expired": _("too late by its own clock"),
    "unsupported": _("it cannot"),
    "failed": _("it did not"),
    "no_answer": _("no answer"),
    "woken": _("sent again"),
    "nothing_stands": _("no connection stands"),
    "in_time": _("its clock is not off by that"),
    "stopped": _("the bulk was stopped"),
}
FILTER: Final[Mapping[str, Text]] = {
    "driver": _("Driver"),
    "model": _("Model"),
    "firmware": _("Firmware"),
    "configuration": _("Configuration"),
    "gateway": _("Gateway"),
    "building": _("Building"),
    "serial": _("Serial number"),
}


def chosen(by: Mapping[str, str], lang: str) -> str:
    """By what meters are chosen: `Driver mqtt_senml, Firmware 1.0`."""
    if not by:
        return gettext("all meters of the property")
    return fmt.listed([f"{FILTER[word]} {named(word, value)}" for word, value in by.items()], lang)


def named(word: str, value: str) -> str:
    """A value that meters are chosen by, as people call it."""
    return sentences.said(sentences.DRIVER, value) if word == "driver" else value or "–"


def pace(per_s: int, per_gateway_min: int) -> str:
    """How fast: over all, and over each gateway."""
    whole = ngettext("%(n)s a second", "%(n)s a second", per_s) % {"n": per_s}
    each = ngettext(
        "%(n)s a minute by each gateway", "%(n)s a minute by each gateway", per_gateway_min
    )
    return f"{whole}{gettext(', ')}{each % {'n': per_gateway_min}}"
