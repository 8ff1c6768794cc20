"""Alerts in words: what each is called, what happened with its figures, and what a person does about it.

An alert keeps the figures that it was opened with; one of them missing, its sentence says the rest. A code
without words is shown as its own, so that nothing is ever hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from prewatt.core.civil_time import utc_datetime
from prewatt.moves.alerts import AlertRefused
from prewatt.reports.alerts import AlertRow
from prewatt.reports.today import Place
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences
from prewatt.web.ui.proposal_words import PROPOSAL_KIND

Text = str | Promise

#: What an alert is called, in the order in which lists offer them.
ALERT: Final[Mapping[str, Text]] = {
    "supply.usage_while_open": _("Usage behind an open relay"),
    "meter.tamper": _("Tamper"),
    "meter.foreign_answer": _("Strange answer"),
    "meter.forged": _("Forged message"),
    "meter.session_ended": _("Session with the meter ended"),
    "meter.balance_differs": _("Balance in the meter differs"),
    "meter.not_released": _("Credit still in a meter"),
    "meter.isolated": _("Meter shut out"),
    "supply.relay_departed": _("Relay not as decided"),
    "supply.relay_stuck": _("Relay does not follow"),
    "supply.command_refused": _("Command refused"),
    "supply.brake": _("Mass-cut brake"),
    "notify.unreachable": _("Customer not reached"),
    "billing.no_tariff": _("No tariff"),
    "billing.correction_too_old": _("Correction too old"),
    "billing.posting_failed": _("Days not posted"),
    "billing.rerating_failed": _("Charges not rated anew"),
    "billing.rebates_failed": _("Rebates not settled"),
    "billing.held_failed": _("Held readings not rated"),
    "moves.let_not_closed": _("Let not closed"),
    "moves.let_not_begun": _("Let not begun"),
    "audit.past_program": _("Changed past the program"),
    "approvals.emergency": _("What was done in an emergency"),
    "signing.key_alone": _("A signing key changed alone"),
    "meter.never_heard": _("Fitted and never heard"),
    "concentrator.silent": _("Concentrator silent"),
    "concentrator.isolated": _("Concentrator shut out"),
    "meter.clock_unmended": _("Clock not put right"),
    "fleet.bulk_braked": _("A bulk stopped by itself"),
}
#: The glyph and colour of each: the triangle for a meter that somebody has to look at.
LOOK: Final[Mapping[str, tuple[str, str]]] = {
    "meter.never_heard": ("offline", "offline"),
    "concentrator.silent": ("offline", "offline"),
    "supply.brake": ("stop", "cut"),
    "fleet.bulk_braked": ("stop", "cut"),
    "notify.unreachable": ("low", "low"),
    "billing.no_tariff": ("wait", "low"),
    "billing.correction_too_old": ("wait", "low"),
    "billing.posting_failed": ("wait", "low"),
    "billing.rerating_failed": ("wait", "low"),
    "billing.rebates_failed": ("wait", "low"),
    "billing.held_failed": ("wait", "low"),
    "moves.let_not_closed": ("wait", "low"),
    "moves.let_not_begun": ("wait", "low"),
}
#: Why a try failed, by the kind of its error; any other is in the log alone.
_WHY: Final[Mapping[str, Text]] = {
    "PeriodClosed": _("The books of that day are closed."),
    "UnitOccupied": _("Somebody else pays there."),
    "PaidTooLittle": _("Its fee and deposit are not in its wallet: the payment was taken back."),
    "RegisterMissing": _("A meter has never reported. Read its register and write it down."),
    "RegisterRefused": _("A register is not credible."),
}
OPEN: Final[Text] = _("Needs a person")
CLOSED: Final[Text] = _("Closed")
ALERT_SHOW: Final[Mapping[str, Text]] = {
    "open": _("Open alerts"),
    "closed": _("Closed alerts"),
    "all": _("All alerts"),
}
ALERT_SORT: Final[Mapping[str, Text]] = {
    "opened": _("Latest first"),
    "oldest": _("Oldest first"),
    "unit": _("Unit"),
    "kind": _("Kind"),
}
_TAMPER: Final[Mapping[str, Text]] = {
    "cover_open": _("The meter's cover was opened %(when)s."),
    "terminal_cover_open": _("The cover of the meter's terminals was opened %(when)s."),
    "magnetic_field": _("The meter felt a strong magnetic field %(when)s."),
    "reverse_flow": _("Energy flowed backwards through the meter %(when)s."),
    "phase_loss": _("The meter missed a phase %(when)s."),
    "clock_set_back": _("The meter's clock was set back %(when)s."),
    "clock_went_back": _("The meter's clock was set back %(when)s."),
    "used_while_open": _("Energy flows through the meter's open relay, seen %(when)s."),
    "register_fell": _("The meter's register fell %(when)s."),
    "fed_back": _("Energy flowed backwards through the meter %(when)s."),
    "feeder_misses": _("The meter may be passed by: its feeder misses energy, %(when)s."),
}
#: What a person does, by code; of a departed relay by what is wanted.
_TODO: Final[Mapping[str, Text]] = {
    "supply.usage_while_open": _(
        "Look at the meter: its relay may be welded shut, or bridged. The usage is charged as always."
    ),
    "meter.tamper": _("Look at the meter and its seals. Its case has all that is known."),
    "meter.foreign_answer": _(
        "The answer changed nothing. Somebody may use this meter's credentials, or command it from elsewhere."
    ),
    "meter.forged": _(
        "It changed nothing. Somebody on the way to this meter makes messages up, repeats or alters them."
    ),
    "meter.session_ended": _(
        "Nothing is told to this meter any more. Find out who speaks in its name, then begin a new session at the meter."
    ),
    "meter.balance_differs": _(
        "Compare the meter's prices and clock with the plan. What Prewatt has charged stands; the meter cuts by its own."
    ),
    "meter.not_released": _(
        "Until it signs that it holds none, it may cut by its own count. If it is gone for good, end its credit with a reason on the meter's page."
    ),
    "meter.isolated": _(
        "It keeps its readings and is charged for them once it is enrolled anew. Supply is left as it is."
    ),
    "meter.never_heard": _(
        "Look at its antenna, its serial number and its driver. Until it is heard, nothing is charged by it."
    ),
    "concentrator.silent": _(
        "Look at its power and its line. The meters behind it keep their readings and send them once it is back."
    ),
    "concentrator.isolated": _(
        "Enrol it anew with a code. The meters behind it keep their readings until then."
    ),
    "meter.clock_unmended": _(
        "Look at the meter: its clock may be failing. Readings are dated by it, and prices go by the hour."
    ),
    "fleet.bulk_braked": _(
        "Look at what failed, then let it go on or stop it: nothing more is asked until then."
    ),
    "supply.relay_departed.closed": _(
        "It is closed again at once. Look at the meter if it opens again."
    ),
    "supply.relay_departed.open": _(
        "Energy is used without credit. It is cut again only through every gate; look at the meter."
    ),
    "supply.relay_stuck": _("Look at the meter. A connection goes on being tried."),
    "supply.command_refused": _("Look at the meter. A connection goes on being tried."),
    "supply.brake": _("No cut is made until two people release the brake."),
    "approvals.emergency": _(
        "Look at it under Approvals and say whether it was right. The alert comes again while nobody has."
    ),
    "signing.key_alone": _(
        "Ask who keeps the machine whether it was right. What a stolen key signed is believed until it is revoked."
    ),
    "notify.unreachable": _(
        "Call the customer. A cut is on hold until a warning arrives or every channel was tried long enough."
    ),
    "billing.no_tariff": _(
        "Give the account a tariff. Its held readings are then charged as if they came now."
    ),
    "billing.correction_too_old": _("Settle the difference with the customer by hand."),
    "billing.posting_failed": _(
        "It is tried again each minute, and other properties go on. The log of the worker has the error."
    ),
    "billing.rerating_failed": _(
        "It is tried again each minute, and other properties go on. The log of the worker has the error."
    ),
    "billing.rebates_failed": _(
        "It is tried again each minute, and other properties go on. The log of the worker has the error."
    ),
    "billing.held_failed": _(
        "It is tried again each minute, and other properties go on. The log of the worker has the error."
    ),
    "moves.let_not_closed": _(
        "End the let on its page, with registers that you read. It is tried again each minute until then."
    ),
    "moves.let_not_begun": _(
        "Put right what stands in its way, or cancel the let: all that was paid comes back. At its agreed "
        "end it is cancelled by itself."
    ),
    "audit.past_program": _(
        "Find out who was at the database, and why. The auditor sees table, login and address."
    ),
}


@dataclass(frozen=True, slots=True)
class Speech:
    """Who is spoken to: the place whose time it is, now, and the page's language."""

    place: Place
    now: datetime
    lang: str

    def at(self, us: object) -> str:
        """When something was, from stored µs; empty where that is not known."""
        if not isinstance(us, int):
            return ""
        return fmt.stamp(utc_datetime(us), self.now, self.place.time_zone, self.lang)

    def when(self, us: object) -> str:
        """The same inside a sentence: `at 09:12`, `yesterday 09:12`, `on Mon 23, 09:12`."""
        at = self.at(us)
        if not isinstance(us, int):
            return gettext("some time ago")
        zone = self.place.time_zone
        day = fmt.local(utc_datetime(us), zone).date()
        back = (fmt.local(self.now, zone).date() - day).days
        if back == 1:
            return f"{at} " if fmt.is_chinese(self.lang) else at
        return (gettext("at %(at)s") if back == 0 else gettext("on %(at)s")) % {"at": at}


def name_of(code: str) -> str:
    """What an alert is called."""
    return sentences.said(ALERT, code)


def look_of(code: str) -> tuple[str, str]:
    """The glyph and the colour of an alert."""
    return LOOK.get(code, ("tamper", "tamper"))


def what_happened(row: AlertRow, speech: Speech) -> str:
    """One sentence, with the figures of the alert."""
    writer = _WRITERS.get(row.code)
    return writer(row.detail, speech) if writer else name_of(row.code)


def what_to_do(row: AlertRow) -> str:
    """What it asks of a person; empty for a code without words."""
    wanted = row.detail.get("wanted")
    text = _TODO.get(f"{row.code}.{wanted}", _TODO.get(row.code, ""))
    return str(text)


def figures(row: AlertRow, speech: Speech) -> list[tuple[str, str, str]]:
    """(what, figure, when) of an alert that stands on figures."""
    detail = row.detail
    if row.code != "supply.usage_while_open" or "used_wh" not in detail:
        return []
    return [
        (gettext("Relay read back open"), "", speech.at(detail["since_us"])),
        (
            gettext("First register after that"),
            _register(detail["from_wh"], speech),
            speech.at(detail["from_us"]),
        ),
        (
            gettext("Latest register"),
            _register(detail["register_wh"], speech),
            speech.at(detail["read_us"]),
        ),
        (gettext("Used behind the open relay"), fmt.energy_wh(detail["used_wh"], speech.lang), ""),
        (
            gettext("Tolerated before a person is called"),
            fmt.energy_wh(detail["tolerance_wh"], speech.lang),
            "",
        ),
    ]


def refused(refusal: AlertRefused) -> str:
    """Why an alert was not closed."""
    return sentences.said(_REFUSED, refusal.reason)


_REFUSED: Final[Mapping[str, Text]] = {
    "closed": _("It is closed already."),
    "cause_lasts": _("What it tells of is still so. It closes by itself once that is put right."),
    "no_note": _("Say what was found or done."),
}


def _register(wh: int, speech: Speech) -> str:
    return f"{fmt.register(wh)} {'度' if fmt.is_chinese(speech.lang) else 'kWh'}"


def _usage(detail: Mapping[str, Any], speech: Speech) -> str:
    return gettext(
        "The relay was read back open %(when)s, and %(energy)s have been counted since."
    ) % {
        "when": speech.when(detail.get("since_us")),
        "energy": fmt.energy_wh(detail.get("used_wh", 0), speech.lang),
    }


def _tamper(detail: Mapping[str, Any], speech: Speech) -> str:
    text = _TAMPER.get(str(detail.get("event")), _("Somebody was at the meter %(when)s."))
    return str(text) % {"when": speech.when(detail.get("at_us"))}


def _foreign(detail: Mapping[str, Any], speech: Speech) -> str:
    return gettext("The meter answered a command it was never sent, %(when)s.") % {
        "when": speech.when(detail.get("received_at_us"))
    }


def _forged(detail: Mapping[str, Any], speech: Speech) -> str:
    when = speech.when(detail.get("received_at_us"))
    if detail.get("what") == "command":
        n = int(detail.get("count", 0))
        return ngettext(
            "The meter refused %(n)d instruction that Prewatt had not signed, by %(when)s.",
            "The meter refused %(n)d instructions that Prewatt had not signed, by %(when)s.",
            n,
        ) % {"n": n, "when": when}
    if detail.get("what") == "keys":
        return gettext(
            "The meter says %(when)s that it trusts an instruction key that is not Prewatt's."
        ) % {"when": when}
    if detail.get("what") == "frame":
        return gettext("Somebody sent an old frame of this meter again, %(when)s.") % {"when": when}
    return gettext("An answer came %(when)s that this meter cannot have signed.") % {"when": when}


def _session_ended(detail: Mapping[str, Any], speech: Speech) -> str:
    return gettext("Too many forged answers came in the name of this meter, by %(when)s.") % {
        "when": speech.when(detail.get("received_at_us"))
    }


def _balance_differs(detail: Mapping[str, Any], speech: Speech) -> str:
    place = speech.place
    return gettext("The meter has %(balance)s left, by the ledger it should have %(expected)s.") % {
        "balance": fmt.money(int(detail.get("balance_micro", 0)), place.currency),
        "expected": fmt.money(int(detail.get("expected_micro", 0)), place.currency),
    }


def _not_released(detail: Mapping[str, Any], speech: Speech) -> str:
    if not detail.get("has_key", True):
        said = gettext("The meter was to hold no credit any more %(when)s (%(why)s) and has no key to sign it.")  # fmt: skip
    elif not detail.get("can", True):
        said = gettext("The meter was to hold no credit any more %(when)s (%(why)s) and is too old to be told so.")  # fmt: skip
    else:
        said = gettext("The meter was to hold no credit any more %(when)s (%(why)s) and has not signed it.")  # fmt: skip
    why = sentences.said(sentences.WALLET_END, str(detail.get("why", "by_hand")))
    return said % {"when": speech.when(detail.get("since_us")), "why": why}


def _isolated(detail: Mapping[str, Any], speech: Speech) -> str:
    if detail.get("why") == "revoked":
        sentence = gettext(
            "The meter's certificate was revoked %(when)s; nothing it says is taken."
        )
    else:
        sentence = gettext("The meter's certificate expired %(when)s; nothing it says is taken.")
    return sentence % {"when": speech.when(detail.get("since_us"))}


def _never_heard(detail: Mapping[str, Any], speech: Speech) -> str:
    return gettext("The meter was fitted %(when)s and has not said a word since.") % {
        "when": speech.when(detail.get("since_us"))
    }


def _concentrator_silent(detail: Mapping[str, Any], speech: Speech) -> str:
    n = int(detail.get("meters", 0))
    return ngettext(
        "The concentrator was last heard %(when)s; %(n)d meter stands behind it.",
        "The concentrator was last heard %(when)s; %(n)d meters stand behind it.",
        n,
    ) % {"n": n, "when": speech.when(detail.get("since_us"))}


def _concentrator_isolated(detail: Mapping[str, Any], speech: Speech) -> str:
    if detail.get("why") == "revoked":
        sentence = gettext(
            "The concentrator's certificate was revoked %(when)s; nothing it says is taken."
        )
    else:
        sentence = gettext(
            "The concentrator's certificate expired %(when)s; nothing it says is taken."
        )
    return sentence % {"when": speech.when(detail.get("since_us"))}


def _clock_unmended(detail: Mapping[str, Any], _speech: Speech) -> str:
    n = int(detail.get("asked", 0))
    return ngettext(
        "The meter was asked %(n)s time in a day to put its clock right; it is off by %(s)s seconds still.",
        "The meter was asked %(n)s times in a day to put its clock right; it is off by %(s)s seconds still.",
        n,
    ) % {"n": n, "s": detail.get("drift_s", "–")}


def _bulk_braked(detail: Mapping[str, Any], _speech: Speech) -> str:
    n = int(detail.get("of", 0))
    return ngettext(
        "Of %(n)s meter that was asked, %(failed)s failed: more than was agreed to.",
        "Of %(n)s meters that were asked, %(failed)s failed: more than was agreed to.",
        n,
    ) % {"n": n, "failed": detail.get("failed", "–")}


def _departed(detail: Mapping[str, Any], _speech: Speech) -> str:
    if detail.get("wanted") == "closed":
        return gettext("The relay is open, though nobody decided a cut.")
    return gettext("The relay is closed, though the supply was cut.")


def _stuck(detail: Mapping[str, Any], _speech: Speech) -> str:
    n = int(detail.get("attempts", 0))
    return ngettext(
        "The meter said yes to %(n)s command, and its relay did not follow.",
        "The meter said yes to %(n)s commands, and its relay did not follow.",
        n,
    ) % {"n": n}


def _command(detail: Mapping[str, Any], _speech: Speech) -> str:
    return sentences.said(sentences.FAILURE, str(detail.get("why") or "meter_failed"))


def _brake(detail: Mapping[str, Any], _speech: Speech) -> str:
    if detail.get("by_hand"):
        return gettext("Somebody put the brake on by hand.")
    return gettext("Too many cuts came together: %(wanted)s were due, and %(room)s allowed.") % {
        "wanted": detail.get("wanted", "–"),
        "room": detail.get("room", "–"),
    }


def _emergency(detail: Mapping[str, Any], _speech: Speech) -> str:
    what = PROPOSAL_KIND.get(str(detail.get("kind")), "–")
    return gettext("One administrator did at once, alone, what else takes others: %(what)s.") % {
        "what": what
    }


def _key_alone(detail: Mapping[str, Any], _speech: Speech) -> str:
    said = (
        gettext("Who keeps the machine revoked a signing key alone (%(key)s): %(why)s")
        if detail.get("do") == "revoke"
        else gettext("Who keeps the machine made the next signing key alone (%(key)s): %(why)s")
    )
    return said % {"key": detail.get("key", "–"), "why": detail.get("reason", "–")}


def _unreachable(detail: Mapping[str, Any], _speech: Speech) -> str:
    if detail.get("why") == "no_address":
        return gettext("No address of this customer is known, so no warning can be sent.")
    return gettext("Every channel was tried, and nothing arrived.")


def _no_tariff(_detail: Mapping[str, Any], _speech: Speech) -> str:
    return gettext("The account has no tariff: its readings are held, and nothing is charged.")


def _too_old(detail: Mapping[str, Any], speech: Speech) -> str:
    written = str(detail.get("from_at", ""))
    try:
        since = datetime.fromisoformat(written)
    except ValueError:
        return gettext("Usage that is archived already should have been charged otherwise.")
    sentence = (
        gettext("Usage since %(day)s should be charged otherwise, and was charged anew too often.")
        if detail.get("worn")
        else gettext(
            "Usage since %(day)s should have been charged otherwise, and is archived already."
        )
    )
    return sentence % {
        "day": fmt.full_date(fmt.local(since, speech.place.time_zone).date(), speech.lang)
    }


def _reasoned(sentence: str, detail: Mapping[str, Any]) -> str:
    """What failed, and why where that can be said."""
    why = _WHY.get(str(detail.get("why")))
    return gettext("%(what)s %(why)s") % {"what": sentence, "why": why} if why else sentence


def _posting(detail: Mapping[str, Any], _speech: Speech) -> str:
    return _reasoned(gettext("Finished days of this property could not be posted."), detail)


def _rerating(detail: Mapping[str, Any], _speech: Speech) -> str:
    return _reasoned(
        gettext("Charges that wait to be rated anew could not be, for some accounts."), detail
    )


def _rebates(detail: Mapping[str, Any], _speech: Speech) -> str:
    return _reasoned(gettext("Rebates of an announced peak could not be settled."), detail)


def _held(detail: Mapping[str, Any], _speech: Speech) -> str:
    return _reasoned(
        gettext("Readings that were held for want of a tariff could not be rated."), detail
    )


def _let_not_closed(detail: Mapping[str, Any], speech: Speech) -> str:
    sentence = gettext("The let that was to end %(when)s could not be closed; its deposit waits.")
    return _reasoned(sentence % {"when": speech.when(detail.get("ends_us"))}, detail)


def _let_not_begun(detail: Mapping[str, Any], speech: Speech) -> str:
    sentence = gettext("The let that was to begin %(when)s could not begin.")
    return _reasoned(sentence % {"when": speech.when(detail.get("begins_us"))}, detail)


def _past_program(detail: Mapping[str, Any], _speech: Speech) -> str:
    n = int(detail.get("changes", 1))
    return ngettext(
        "%(n)s change was made at the database itself, without any event in the audit.",
        "%(n)s changes were made at the database itself, without any event in the audit.",
        n,
    ) % {"n": n}


_WRITERS: Final[Mapping[str, Callable[[Mapping[str, Any], Speech], str]]] = {
    "supply.usage_while_open": _usage,
    "meter.tamper": _tamper,
    "meter.foreign_answer": _foreign,
    "meter.forged": _forged,
    "meter.session_ended": _session_ended,
    "meter.balance_differs": _balance_differs,
    "meter.not_released": _not_released,
    "meter.isolated": _isolated,
    "meter.never_heard": _never_heard,
    "concentrator.silent": _concentrator_silent,
    "concentrator.isolated": _concentrator_isolated,
    "meter.clock_unmended": _clock_unmended,
    "fleet.bulk_braked": _bulk_braked,
    "supply.relay_departed": _departed,
    "supply.relay_stuck": _stuck,
    "supply.command_refused": _command,
    "supply.brake": _brake,
    "notify.unreachable": _unreachable,
    "billing.no_tariff": _no_tariff,
    "billing.correction_too_old": _too_old,
    "billing.posting_failed": _posting,
    "billing.rerating_failed": _rerating,
    "billing.rebates_failed": _rebates,
    "billing.held_failed": _held,
    "moves.let_not_closed": _let_not_closed,
    "moves.let_not_begun": _let_not_begun,
    "audit.past_program": _past_program,
    "approvals.emergency": _emergency,
    "signing.key_alone": _key_alone,
}
