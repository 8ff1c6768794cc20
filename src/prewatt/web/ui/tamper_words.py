"""Cases of tampering in words: kinds, states, evidence with its figures, reasons of closing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from prewatt.core.vocabulary import CaseState, TamperKind, TamperResponse
from prewatt.tamper.operations import CaseRefused
from prewatt.tamper.policy import PolicyRefused
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences

Text = str | Promise

KIND: Final[Mapping[TamperKind, Text]] = {
    TamperKind.COVER: _("Cover opened"),
    TamperKind.TERMINAL_COVER: _("Terminal cover opened"),
    TamperKind.MAGNETIC_FIELD: _("Magnetic field"),
    TamperKind.REVERSE_FLOW: _("Energy flows backwards"),
    TamperKind.PHASE_LOSS: _("Phase lost"),
    TamperKind.BYPASS: _("Bypass suspected"),
    TamperKind.RELAY_WELDED: _("Relay welded"),
    TamperKind.CLOCK_SET_BACK: _("Clock set back"),
}
#: What each kind asks of a person.
TO_DO: Final[Mapping[TamperKind, Text]] = {
    TamperKind.COVER: _("Look at the meter and its seals."),
    TamperKind.TERMINAL_COVER: _(
        "Look at the terminals and their seal: a bridge may be behind them."
    ),
    TamperKind.MAGNETIC_FIELD: _(
        "Look for a magnet at the meter, and compare its usage with the days before."
    ),
    TamperKind.REVERSE_FLOW: _(
        "Look whether line and load are exchanged, or whether somebody feeds energy in."
    ),
    TamperKind.PHASE_LOSS: _("Have the fuses and the supply of that phase looked at."),
    TamperKind.BYPASS: _(
        "Measure at the unit: its feeder counts more than the meters behind it explain."
    ),
    TamperKind.RELAY_WELDED: _("Exchange the meter: its relay does not part the circuit any more."),
    TamperKind.CLOCK_SET_BACK: _(
        "Compare the readings before and after. What was charged is not moved by a clock."
    ),
}
STATE: Final[Mapping[CaseState, Text]] = {
    CaseState.OPEN: _("Nobody at it yet"),
    CaseState.LOOKED_AT: _("Looked at"),
    CaseState.CLOSED: _("Closed"),
}
STATE_LOOK: Final[Mapping[CaseState, tuple[str, str]]] = {
    CaseState.OPEN: ("tamper", "tamper"),
    CaseState.LOOKED_AT: ("wait", "low"),
    CaseState.CLOSED: ("check", "on"),
}
CASE_SHOW: Final[Mapping[str, Text]] = {
    "open": _("Open cases"),
    "closed": _("Closed cases"),
    "all": _("All cases"),
}
CASE_SORT: Final[Mapping[str, Text]] = {
    "opened": _("Latest first"),
    "oldest": _("Oldest first"),
    "evidence": _("Most evidence first"),
    "unit": _("Unit"),
    "kind": _("Kind"),
}
REASON: Final[Mapping[str, Text]] = {
    "false_alarm": _("False alarm"),
    "work": _("Work on the meter that was announced"),
    "repaired": _("Found and put right"),
    "proved": _("Tampering proved"),
    "exchanged": _("Meter exchanged"),
    "other": _("Something else"),
}
RESPONSE: Final[Mapping[TamperResponse, Text]] = {
    TamperResponse.NOTHING: _("Alert alone"),
    TamperResponse.WARN: _("Tell the customer"),
    TamperResponse.TECHNICIAN: _("Tell the customer, send an installer"),
    TamperResponse.HOLD_EMERGENCY: _("Hold emergency credit until it is closed"),
    TamperResponse.CUT: _("Cut with notice, through every gate"),
}
#: Why less was done than the policy says.
KEPT: Final[Mapping[str, Text]] = {
    "protected": _("This supply is protected: nothing is done to it by itself."),
    "nobody": _("Nobody pays by this meter: no supply is touched."),
}
_POLICY_REFUSED: Final[Mapping[str, Text]] = {
    "same": _("That is the policy already."),
    "stale": _("Somebody has changed the policy meanwhile. Look at it again."),
    "unknown": _("Choose one of these."),
    "not_theirs": _("A lost phase is nobody's deed: no supply is touched for it."),
}
EVENT: Final[Mapping[str, Text]] = {
    "cover_open": _("The meter says that its cover was opened."),
    "cover_closed": _("The meter says that its cover is closed again."),
    "terminal_cover_open": _("The meter says that the cover of its terminals was opened."),
    "terminal_cover_closed": _("The meter says that the cover of its terminals is closed again."),
    "magnetic_field": _("The meter says that it feels a strong magnetic field."),
    "magnetic_field_gone": _("The meter says that the magnetic field is gone."),
    "reverse_flow": _("The meter says that energy flows backwards."),
    "reverse_flow_gone": _("The meter says that energy flows forwards again."),
    "phase_loss": _("The meter says that a phase is missing."),
    "phase_restored": _("The meter says that the phase is back."),
    "clock_set_back": _("The meter says that its clock was set back."),
    "clock_went_back": _("The meter's clock went back by %(back)s."),
    "used_while_open": _(
        "Its relay was read back open, and %(used_wh)s were counted since: its register stands at %(register_wh)s."
    ),
    "register_fell": _(
        "Its register fell by %(fell_wh)s, to %(register_wh)s. The reading is held."
    ),
    "fed_back": _("It counted %(fed_wh)s that flowed back within a day."),
    "feeder_misses": _(
        "Its feeder counted %(feeder_wh)s that day and misses %(missing_wh)s beyond its usual losses; this meter counted %(own_wh)s, where %(usual_wh)s are usual."
    ),
}
_REFUSED: Final[Mapping[str, Text]] = {
    "closed": _("It is closed already, and a closed case is not edited."),
    "no_reason": _("Choose why."),
    "no_note": _("Say what was found or done."),
}


def refused(refusal: CaseRefused) -> str:
    """Why a case stays as it is."""
    return sentences.said(_REFUSED, refusal.reason)


def policy_refused(refusal: PolicyRefused) -> str:
    """Why a policy is not proposed."""
    return sentences.said(_POLICY_REFUSED, refusal.reason)


def evidence_text(code: str, detail: Mapping[str, Any], lang: str) -> str:
    """What one piece of evidence says, with its figures."""
    figures = {name: _figure(name, value, lang) for name, value in detail.items()}
    text = str(EVENT.get(code, code))
    return text % figures if "%(" in text else text


def _figure(name: str, value: Any, lang: str) -> str:
    return (
        fmt.energy_wh(value, lang)
        if name.endswith("_wh") and isinstance(value, int)
        else str(value)
    )
