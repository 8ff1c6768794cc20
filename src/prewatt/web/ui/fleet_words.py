"""What meters are asked, what came of it, and gaps, in people's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from prewatt.core.vocabulary import BulkState, GapState, RequestKind, RequestState
from prewatt.web.ui import format as fmt

Text = str | Promise

REQUEST_KIND: Final[Mapping[RequestKind, Text]] = {
    RequestKind.READ: _("Read now"),
    RequestKind.HISTORY: _("Send the history"),
    RequestKind.CLOCK: _("Put the clock right"),
    RequestKind.VERSION: _("Say the firmware"),
    RequestKind.RECONNECT: _("Connect again what stands"),
}
KIND_OF: Final = {each.word: each for each in RequestKind}
REQUEST_STATE: Final[Mapping[RequestState, Text]] = {
    RequestState.WAITING: _("Waits"),
    RequestState.SENT: _("Sent"),
    RequestState.ANSWERED: _("Answered"),
    RequestState.REFUSED: _("Refused"),
    RequestState.GIVEN_UP: _("Given up"),
    RequestState.CANCELLED: _("Taken back"),
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
RESULT: Final[Mapping[str, Text]] = {
    "": "",
    "ok": "",
    "expired": _("too late by its own clock"),
    "unsupported": _("it cannot"),
    "failed": _("it did not"),
    "no_answer": _("no answer"),
    "woken": _("sent again"),
    "nothing_stands": _("no connection stands"),
    "stopped": _("the bulk was stopped"),
}
_FILTER: Final[Mapping[str, Text]] = {
    "driver": _("Driver"),
    "model": _("Model"),
    "firmware": _("Firmware"),
    "gateway": _("Gateway"),
    "building": _("Building"),
    "serial": _("Serial number"),
}


def chosen(by: Mapping[str, str], lang: str) -> str:
    """By what meters are chosen: `Driver mqtt_senml, Firmware 1.0`."""
    if not by:
        return gettext("all meters of the property")
    return fmt.listed([f"{_FILTER[word]} {value or '–'}" for word, value in by.items()], lang)


def pace(per_s: int, per_gateway_min: int) -> str:
    """How fast: over all, and over each gateway."""
    whole = ngettext("%(n)s a second", "%(n)s a second", per_s) % {"n": per_s}
    each = ngettext(
        "%(n)s a minute by each gateway", "%(n)s a minute by each gateway", per_gateway_min
    )
    return f"{whole}, {each % {'n': per_gateway_min}}"
