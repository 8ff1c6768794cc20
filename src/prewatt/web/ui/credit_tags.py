"""Words and template tags for meters that sign and hold credit; built in to every template (see ``web.settings``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django import template
from django.template.context import Context
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from prewatt.instructions.queries import ToldLine
from prewatt.reports.meter_credit import CreditRow
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences
from prewatt.web.ui.tags import icon

register = template.Library()

Text = str | Promise
CREDIT_STATE: Final[Mapping[str, Text]] = {
    "held": _("Holds its credit"),
    "releasing": _("Being released"),
    "ended": _("Holds none any more"),
    "server": _("None, the server decides"),
}
CREDIT_SHOW: Final[Mapping[str, Text]] = {
    "all": _("All that sign"),
    "held": _("Hold credit"),
    "releasing": _("Being released"),
    "ended": _("Holds none any more"),
    "server": _("Never held credit"),
    "no_key": _("Without a valid key"),
}
CREDIT_SORT: Final[Mapping[str, Text]] = {
    "unit": _("Unit"),
    "serial": _("Serial"),
    "said": _("Longest without a signature"),
    "apart": _("Furthest from the ledger"),
}
_LOOK: Final[Mapping[str, tuple[str, str]]] = {
    "held": ("check", "on"),
    "releasing": ("wait", "low"),
    "ended": ("vacant", "vacant"),
    "server": ("vacant", "vacant"),
}
KEY_STATE: Final[Mapping[str, Text]] = {
    "holds": _("holds"),
    "ended": _("ended"),
    "revoked": _("revoked"),
}
_OPERATION: Final[Mapping[str, Text]] = {
    "read": _("Say how it stands"),
    "relay": _("Relay"),
    "credit": _("Lifetime credit"),
    "clock": _("Clock"),
    "trust": _("Keys that it trusts"),
    "limit": _("Power limit"),
    "price": _("Price"),
    "release": _("Hold no credit"),
}
_SESSION: Final[Mapping[str, Text]] = {
    "holds": _("holds"),
    "replaced": _("replaced"),
    "forged": _("ended: too much was refused"),
    "ended": _("ended"),
}
_RESULT: Final[Mapping[str, Text]] = {
    "ok": _("done"),
    "expired": _("refused: too late by its clock"),
    "stale": _("refused: its number is behind"),
    "broken_chain": _("refused: it stands elsewhere"),
    "lower_credit": _("refused: less credit than it has had"),
    "unsupported": _("refused: it does not know this"),
    "failed": _("refused: it cannot do this"),
    "old_key": _("refused: signed by an old key"),
}
_STATE: Final[Mapping[str, Text]] = {
    "issued": _("not sent yet"),
    "sent": _("no answer yet"),
    "expired": _("expired without an answer"),
    "superseded": _("given up for another"),
}
#: Why nothing was begun or ended, by `instructions.wallets.REFUSED`.
WALLET_REFUSED: Final[Mapping[str, Text]] = {
    "not_paying": _("Nobody pays by this meter."),
    "taken": _("The meter or the account holds credit already, or has not signed its release."),
    "protected": _("A protected supply keeps its credit here: a meter opens its relay at zero."),
    "no_key": _("A meter without a valid key cannot be told of credit. Enrol its key first."),
    "short_form": _("Answers of the short form tell no balance, so nothing could be compared."),
    "counts": _("It counts credit of before still, and knows no instruction that ends it."),
    "none": _("This meter holds no credit."),
    "not_asked": _("Release it first: the meter was not told yet that it holds no credit."),
    "no_note": _("Say why."),
}

BAD_KEY: Final[Text] = _("That is no public key of P-256 that can be this meter's alone.")


@register.simple_tag(takes_context=True)
def credit_chip(context: Context, row: CreditRow) -> SafeString:
    """How the credit in a meter stands, as glyph and word."""
    glyph, css = _LOOK[row.state]
    word = str(CREDIT_STATE[row.state])
    return format_html('<span class="chip is-{}">{}{}</span>', css, icon(context, glyph), word)


@register.filter
def key_state(state: str) -> str:
    """How a meter's key stands."""
    return str(KEY_STATE[state])


@register.filter
def session_state(ended_why: str) -> str:
    """Whether the keys of a session hold, or why they do not."""
    return sentences.said(_SESSION, ended_why or "holds")


@register.filter
def wallet_end(because: str) -> str:
    """Why a meter holds no credit any more."""
    return sentences.said(sentences.WALLET_END, because)


@register.simple_tag(takes_context=True)
def told_line(context: Context, line: ToldLine) -> str:
    """What a meter was told: `Lifetime credit €20.00`."""
    name = sentences.said(_OPERATION, line.operation)
    if line.operation == "credit":
        currency = context["place"].currency
        return f"{name} {fmt.money(line.argument, currency)}"
    if line.operation == "relay":
        return f"{name}: {gettext('closed') if line.argument == 1 else gettext('open')}"
    return name


@register.filter
def told_outcome(line: ToldLine) -> str:
    """What came of it, in words."""
    return (
        sentences.said(_RESULT, line.result) if line.result else sentences.said(_STATE, line.state)
    )


@register.filter
def told_proof(line: ToldLine) -> str:
    """Whether what is stored of its answer verifies, and by which key."""
    if not line.answer or line.answer == "does not verify":
        return gettext("does not verify") if line.answer else ""
    if "session" in line.answer:
        number = line.answer.partition("session ")[2].partition(",")[0]
        if line.answer.startswith("sealed"):
            return gettext("verified as it came, in session %(number)s") % {"number": number}
        return gettext("by the keys of session %(number)s") % {"number": number}
    key = line.answer.rpartition(" ")[2][:8]
    if line.answer.startswith("proved"):
        return gettext("proved by a later answer, key %(key)s") % {"key": key}
    return gettext("signed, key %(key)s") % {"key": key}
