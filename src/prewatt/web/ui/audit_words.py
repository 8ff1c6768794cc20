"""The audit in words: what each code says, how an event's figures read, and what changed by it.

Codes are stored and never renamed; a test asks for a sentence in every language for each that the
source can write. Names of figures of documents (supply rules, plans) stand in ``field_words``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from prewatt.oversight.operations import WatchRefused
from prewatt.reports.audit_watches import FindingRow
from prewatt.web.ui import field_words, sentences
from prewatt.web.ui import format as fmt
from prewatt.web.ui.proposal_words import PROPOSAL_KIND

Text = str | Promise

#: What was done, by its code; who did it and to what stand beside it.
CODE: Final[Mapping[str, Text]] = {
    "instructions.key.enrolled": _("Enrolled a meter's key"),
    "instructions.session.begun": _("Began a session with a meter behind LoRaWAN"),
    "instructions.session.ended": _("Ended a session with a meter behind LoRaWAN"),
    "instructions.wallet.begun": _("Put an account's credit into its meter"),
    "instructions.wallet.released": _("Released a meter from holding credit"),
    "instructions.wallet.signed": _("A meter signed that it holds no credit any more"),
    "instructions.wallet.ended": _("Ended credit in a meter without its answer"),
    "instructions.key.revoked": _("Revoked a meter's key"),
    "instructions.rotation.led": _("Led meters to another instruction key"),
    "instructions.limit.wished": _("Gave a meter a power limit"),
    "vending.recharge.posted": _("Sold a recharge"),
    "vending.recharge.taken_back": _("Took a recharge back"),
    "vending.refund.booked": _("Booked a refund"),
    "vending.refund.paid": _("Paid a refund out"),
    "vending.credit.given": _("Adjusted an account by hand"),
    "vending.debt.paid": _("Took a payment of a debt"),
    "debts.debt.opened": _("Wrote a debt down"),
    "debts.debt.settled": _("Settled a debt out of the wallet"),
    "debts.debt.written_off": _("Wrote a debt off"),
    "debts.agreement.changed": _("Agreed a debt anew"),
    "debts.policy.set": _("Set the rules of debts"),
    "billing.tariff.version_created": _("Made a version of a plan"),
    "billing.tariff.assigned": _("Put accounts on a plan"),
    "billing.tariff.changed": _("Changed the plan of an account"),
    "billing.tariff.withdrawn": _("Took a change of plan back"),
    "billing.tariff.corrected": _("Put a wrong plan right"),
    "billing.terms.set": _("Set the terms of an account"),
    "billing.terms.withdrawn": _("Took a change of terms back"),
    "billing.event.announced": _("Announced a peak"),
    "billing.event.withdrawn": _("Took an announced peak back"),
    "billing.prices.appended": _("Announced prices"),
    "billing.resale.set": _("Set the price rules"),
    "billing.draft.saved": _("Saved a draft of a plan"),
    "billing.trial.asked": _("Tried a draft"),
    "approvals.proposed": _("Proposed a change"),
    "approvals.approved": _("Approved a proposal"),
    "approvals.refused": _("Refused a proposal"),
    "approvals.withdrawn": _("Withdrew a proposal"),
    "approvals.void": _("Found a proposal overtaken"),
    "approvals.expired": _("Let a proposal expire"),
    "approvals.alone": _("Changed something that takes one person"),
    "approvals.agreed": _("Agreed to a proposal"),
    "approvals.emergency": _("Acted in an emergency"),
    "approvals.approved_afterwards": _("Approved an emergency afterwards"),
    "approvals.refused_afterwards": _("Disapproved of an emergency"),
    "api_keys.ended": _("Ended a key of a program"),
    "mdm.reading.entered": _("Entered a reading"),
    "mdm.reading.edited": _("Edited a reading"),
    "mdm.reading.withdrawn": _("Took a reading out"),
    "mdm.reading.released": _("Released a held reading"),
    "mdm.reading.discarded": _("Discarded a held reading"),
    "mdm.vee.released": _("Charged readings that had no plan"),
    "mdm.month.archived": _("Archived a month"),
    "moves.tenant.in": _("Let a tenant move in"),
    "moves.tenant.out": _("Let a tenant move out"),
    "moves.tenant.changed": _("Handed a unit over"),
    "moves.meter.exchanged": _("Exchanged a meter"),
    "moves.meter.fitted": _("Fitted a meter"),
    "moves.meter.checked": _("Looked at a fitted meter"),
    "estate.field_rules.set": _("Set how long devices may be silent"),
    "moves.let.announced": _("Announced a let"),
    "moves.let.begun": _("Began a let"),
    "moves.let.closed": _("Ended a let"),
    "moves.let.cancelled": _("Cancelled a let"),
    "estate.property.imported": _("Imported a property"),
    "estate.feed_in.begun": _("Said that a meter's point feeds energy in rightly"),
    "estate.feed_in.ended": _("Said that a meter's point feeds no energy in any more"),
    "estate.calendar.days": _("Changed days of the calendar"),
    "estate.calendar.list": _("Followed another list of holidays"),
    "estate.concentrator.registered": _("Registered a concentrator"),
    "estate.concentrator.meters": _("Changed the meters of a concentrator"),
    "devices.issuer": _("Kept an issuer of devices"),
    "devices.code": _("Made a code to enrol a device"),
    "devices.enrolled": _("Enrolled a device"),
    "devices.renewed": _("Renewed the certificate of a device"),
    "devices.revoked": _("Revoked the certificates of a device"),
    "fleet.asked": _("Asked a meter"),
    "fleet.cancelled": _("Took back what a meter was to be asked"),
    "fleet.bulk.begun": _("Began to ask many meters"),
    "fleet.bulk.pause": _("Paused a bulk"),
    "fleet.bulk.resume": _("Let a bulk go on"),
    "fleet.bulk.stop": _("Stopped a bulk"),
    "fleet.bulk.braked": _("A bulk stopped by itself"),
    "supply.policy.set": _("Set the supply rules"),
    "supply.rules.changed": _("Changed the supply rules"),
    "supply.order.decided": _("Decided an order"),
    "supply.brake.on": _("Put the mass-cut brake on"),
    "supply.brake.release_asked": _("Asked to release the brake"),
    "supply.brake.released": _("Released the brake"),
    "supply.payment_hold.placed": _("Held cuts for a payment"),
    "supply.payment_hold.released": _("Ended a hold for a payment"),
    "supply.by_hand.set": _("Switched a supply by hand"),
    "supply.protection.set": _("Changed a protection from cuts"),
    "notify.quiet_hours.set": _("Set quiet hours"),
    "tamper.case.opened": _("Opened a tamper case"),
    "tamper.case.looked_at": _("Took a tamper case up"),
    "tamper.case.noted": _("Wrote down what was found at a meter"),
    "tamper.case.responded": _("Did what the policy says about a tamper case"),
    "mdm.version.changed": _("A device told another version"),
    "fleet.clock_asked": _("Asked a meter to put its clock right"),
    "tamper.policy.changed": _("Changed the tamper policy"),
    "tamper.case.closed": _("Closed a tamper case"),
    "notify.alert.closed": _("Closed an alert"),
    "ledger.period.closed": _("Closed the books"),
    "access.password.set": _("Set a first password"),
    "access.password.reset": _("Set a new password"),
    "access.factor.enrolled": _("Took up a second factor"),
    "access.factor.forgotten": _("Took a second factor away"),
    "access.factor.asked": _("Asked for another second factor"),
    "access.factor.kept": _("Kept the second factor"),
    "access.factor.dropped": _("Lost a second factor as asked"),
    "access.password.changed": _("Changed the own password"),
    "access.new_browser": _("Signed in with a new browser"),
    "access.passkey.added": _("Added a passkey"),
    "access.passkey.removed": _("Removed a passkey"),
    "access.passkey.copied": _("Used a passkey that looks copied"),
    "access.recovery.made": _("Made recovery codes"),
    "access.recovery.used": _("Used a recovery code"),
    "access.invited": _("Invited a person"),
    "access.duty.given": _("Gave a duty"),
    "access.group.changed": _("Changed a group of properties"),
    "access.tenant.linked": _("Linked a tenant’s sign-in"),
    "access.tenant.unlinked": _("Unlinked a tenant’s sign-in"),
    "access.suspended": _("Suspended a person"),
    "access.resumed": _("Let a suspended person back in"),
    "access.left": _("Ended what a person may do"),
    "access.refused": _("Was refused"),
    "access.sign_in.refused": _("Refused a network at the sign-in again and again"),
    "mandates.given": _("Agreed that something may be done later"),
    "mandates.file_taken": _("Took all that is known of a customer"),
    "signing.key_made": _("Made a signing key"),
    "signing.key_rotated": _("Made the next signing key"),
    "signing.key_revoked": _("Revoked a signing key"),
    "signing.keys_resealed": _("Sealed the signing keys anew"),
    "signing.file_changed": _("Found the file of signing keys changed past the command"),
    "devices.key_made": _("Made a meter’s key for CoAP"),
    "oversight.watch.saved": _("Saved a watch"),
    "oversight.finding.answered": _("Answered a finding"),
    "oversight.guard.missing": _("Missed a guard of a table"),
    "oversight.exported": _("Took a signed copy of the audit"),
    "system.schema.migrated": _("Brought the database up to date"),
    "reads.board": _("Looked at the board"),
    "reads.alerts": _("Looked at alerts"),
    "reads.alert": _("Looked at an alert"),
    "reads.accounts": _("Looked at the list of accounts"),
    "reads.account": _("Looked at an account"),
    "reads.units": _("Looked at the list of units"),
    "reads.unit": _("Looked at a unit"),
    "reads.picker": _("Searched for a customer"),
    "reads.recharge": _("Looked at a recharge"),
    "reads.supply": _("Looked at the orders"),
    "reads.meters": _("Looked at the list of meters"),
    "reads.meter": _("Looked at a meter"),
    "reads.held": _("Looked at a held reading"),
    "reads.tamper": _("Looked at a tamper case"),
    "reads.trial": _("Looked at the accounts of a trial"),
    "reads.proposals": _("Looked at the proposals"),
    "reads.proposal": _("Looked at a proposal"),
    "reads.money": _("Looked at the recharges"),
    "reads.lets": _("Looked at the lets"),
    "reads.let": _("Looked at a let"),
    "reads.refunds": _("Looked at the refunds"),
    "reads.refund": _("Looked at a refund"),
    "reads.debts": _("Looked at the debts"),
    "reads.debt": _("Looked at a debt"),
    "reads.messages": _("Looked at the messages"),
    "reads.export": _("Took a list as a file"),
    "reads.audit": _("Looked at the audit"),
    "reads.event": _("Looked at an event"),
    "reads.people": _("Looked at the people"),
    "reads.person": _("Looked at what a person did"),
    "reads.findings": _("Looked at the findings"),
}
SHOW: Final[Mapping[str, Text]] = {
    "deeds": _("What was done"),
    "reads": _("What was looked at"),
    "refused": _("What was refused"),
    "all": _("Everything"),
}
FINDING_SHOW: Final[Mapping[str, Text]] = {
    "new": _("To be looked into"),
    "answered": _("Answered"),
    "all": _("All findings"),
}
FINDING_LETTER: Final[Mapping[str, Text]] = {
    "sent": _("sent"),
    "given_up": _("given up: it could not be sent"),
    "waits": _("not sent yet"),
}
WATCH: Final[Mapping[str, Text]] = {
    "self_approval": _("Own approval tried"),
    "refused": _("Many refusals"),
    "night_change": _("Changed outside office hours"),
    "unusual_refund": _("Unusual refund"),
    "taken_back": _("Many recharges taken back"),
    "small_credits": _("Many small recharges"),
    "dormant": _("Sleeping account woken"),
    "broken_glass": _("Emergency path used"),
    "past_program": _("Changed past the program"),
}
WATCH_SAYS: Final[Mapping[str, Text]] = {
    "self_approval": _("Somebody tried to approve what they had asked for themselves."),
    "refused": _("A person was refused again and again within some hours."),
    "night_change": _(
        "A person changed something outside office hours, by local time, or on a day off by the property’s calendar."
    ),
    "unusual_refund": _("A refund above an amount, or many times what is usual in 90 days."),
    "taken_back": _("A person took several recharges back within some days."),
    "small_credits": _("A person sold many recharges of a small amount within some hours."),
    "dormant": _("Money moved on an account in which nothing had happened for long."),
    "broken_glass": _("Somebody acted in an emergency without a second person."),
    "past_program": _("A table was changed at the database itself, and no event explains it."),
}
FIGURE: Final[Mapping[str, Text]] = {
    "count": _("From how many on"),
    "hours": _("Within hours"),
    "days": _("Within days"),
    "opens": _("Office hours begin"),
    "closes": _("Office hours end"),
    "saturdays": _("Closed on Saturdays"),
    "sundays": _("Closed on Sundays"),
    "holidays": _("Closed on public holidays"),
    "amount": _("Amount"),
    "times": _("From how many times the usual on"),
}
#: Where a figure means another thing in one kind.
FIGURE_OF: Final[Mapping[str, Text]] = {
    "dormant.days": _("Nothing for days"),
    "small_credits.amount": _("Up to an amount"),
    "unusual_refund.amount": _("From an amount on"),
}
#: What kind of thing an event is about.
KIND: Final[Mapping[str, Text]] = {
    "account": _("Account"),
    "unit": _("Unit"),
    "meter": _("Meter"),
    "property": _("Property"),
    "user": _("Person"),
    "tariff": _("Plan"),
    "tariff_draft": _("Draft"),
    "proposal": _("Proposal"),
    "price_event": _("Announced peak"),
    "concentrator": _("Concentrator"),
    "customer": _("Customer"),
    "group": _("Group of properties"),
    "recharge": _("Recharge"),
    "alert": _("Alert"),
    "let": _("Let"),
    "refund": _("Refund"),
    "debt": _("Debt"),
    "case": _("Held reading"),
    "watch": _("Watch"),
    "finding": _("Finding"),
    "event": _("Event"),
    "table": _("Table"),
    "source": _("Network"),
    "month": _("Month"),
}
#: The page of an object, by its kind; what has none is shown by its timeline alone.
PAGE_OF: Final[Mapping[str, str]] = {
    "account": "/accounts/{}",
    "unit": "/units/{}",
    "user": "/audit/people/{}",
    "proposal": "/approvals/{}",
    "recharge": "/recharges/{}",
    "alert": "/alerts/{}",
    "let": "/lets/{}",
    "refund": "/refunds/{}",
    "debt": "/debts/{}",
    "case": "/meters/held/{}",
    "watch": "/audit/watches/{}",
    "finding": "/audit/findings/{}",
    "event": "/audit/{}",
}
#: Why something was refused, beside the words that a permission has.
WHY_REFUSED: Final[Mapping[str, Text]] = {
    "own": _("what they had asked for themselves"),
    "not_own": _("what somebody else had proposed"),
    "not_administrator": _("no administrator there"),
    "step_up": _("the proof of a second factor was used up, too old or for something else"),
    "code": _("a wrong code of the second factor"),
    "wait": _("too many wrong codes"),
    "password": _("a wrong password of the second person"),
    "duty": _("the second person may not sign"),
}
#: What was refused.
WHAT_REFUSED: Final[Mapping[str, Text]] = {
    "permission": _("a permission"),
    "proposal": _("an approval"),
    "self_approval": _("an own approval"),
    "factor": _("a second factor"),
    "countersign": _("a countersignature"),
}
#: Names of figures, as far as they have words.
FIELD: Final[Mapping[str, Text]] = {
    "amount": _("Amount"),
    "residual": _("Rounding"),
    "left": _("Left"),
    "receipt": _("Receipt"),
    "way": _("How"),
    "debt": _("Debt"),
    "refund": _("Refund"),
    "reason": _("Reason"),
    "why": _("Why"),
    "what": _("What"),
    "note": _("Note"),
    "answer": _("Answer"),
    "valid_from": _("From"),
    "from_at": _("From"),
    "until_at": _("Until"),
    "until": _("Until"),
    "approved_by": _("Approved by"),
    "made_by": _("Proposed by"),
    "accounts": _("Accounts"),
    "digest": _("Digest"),
    "version": _("Version"),
    "edition": _("Edition"),
    "asked": _("Searched for"),
    "path": _("Address of the page"),
    "method": _("Method"),
    "count": _("How many"),
    "sum": _("Together"),
    "usual": _("Usual"),
    "operation": _("Operation"),
    "rows": _("Rows"),
    "role": _("Database role"),
    "address": _("Address"),
    "program": _("Program"),
    "guard": _("Guard"),
    "since": _("Since"),
    "code": _("What was done"),
    "kind": _("Kind"),
    "about": _("About"),
}
_MONEY: Final = frozenset(
    {
        "amount", "residual", "left", "sum", "usual", "available_micro", "opening_balance_micro",
        "weekly_cap", "weekly_cap_micro", "charged_micro", "fee_micro", "deposit_micro",
    }
)  # fmt: skip
_ENERGY: Final = frozenset({"value_wh", "energy_wh", "plausible_wh", "end_value_wh"})
#: What is said of an event in one line beneath what was done, in this order.
_TOLD: Final = (
    "amount",
    "left",
    "debt",
    "refund",
    "kind",
    "asked",
    "what",
    "why",
    "reason",
    "note",
    "answer",
)
_SAVED_REFUSED: Final[Mapping[str, Text]] = {
    "not_auditor": _("Only an auditor of this property can do that."),
    "unknown": _("It is not there any more, or was answered by somebody in the meantime."),
    "note": _("Say what was found out."),
}
_TEXT_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that an event changed: its name, and how it read before and after."""

    name: str
    before: str
    after: str
    changed: bool


def named(code: str) -> str:
    """What was done."""
    return sentences.said(CODE, code)


def refused(refusal: WatchRefused) -> str:
    """Why a watch or an answer was not kept."""
    return sentences.said(_SAVED_REFUSED, refusal.reason)


def kind_of(subject: str) -> str:
    """What kind of thing an event is about."""
    return sentences.said(KIND, subject.partition(":")[0])


def page_of(subject: str) -> str:
    """The page of an object; empty where it has none."""
    kind, _colon, number = subject.partition(":")
    pattern = PAGE_OF.get(kind, "")
    return pattern.format(number) if pattern and number.isdigit() else ""


def timeline_of(subject: str) -> str:
    """The page with everything that happened to an object; empty for what is no object of ours."""
    kind, _colon, number = subject.partition(":")
    return f"/audit/of/{kind}:{number}" if number.isdigit() and kind.isidentifier() else ""


def figure_name(kind: str, name: str) -> str:
    """What a figure of a watch is called."""
    return str(FIGURE_OF.get(f"{kind}.{name}", FIGURE[name]))


def told(detail: Mapping[str, Any], currency: str, zone: str, lang: str) -> str:
    """The figures of an event that say most, in one line."""
    parts = [
        valued(each, detail[each], currency, zone, lang)
        for each in _TOLD
        if detail.get(each) not in (None, "") and (each != "amount" or detail[each] != 0)
    ]
    return " · ".join(parts)


def lines(detail: Mapping[str, Any], currency: str, zone: str, lang: str) -> list[tuple[str, str]]:
    """Everything an event says besides what it changed."""
    return [
        (_field(key), valued(key, value, currency, zone, lang))
        for key, value in detail.items()
        if key not in ("before", "after") and value not in (None, "", [], {})
    ]


def differences(detail: Mapping[str, Any], currency: str, zone: str, lang: str) -> list[Difference]:
    """What an event changed, figure by figure: those that differ first."""
    if "before" not in detail and "after" not in detail:
        return []
    before, after = _flat(detail.get("before")), _flat(detail.get("after"))
    names = dict.fromkeys([*before, *after])
    found = [
        Difference(
            _path(name),
            valued(name, before[name], currency, zone, lang) if name in before else "–",
            valued(name, after[name], currency, zone, lang) if name in after else "–",
            name not in before or name not in after or before[name] != after[name],
        )
        for name in names
    ]
    return sorted(found, key=lambda each: not each.changed)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """A document as its leaves, each by its path."""
    if isinstance(value, Mapping) and value:
        return {
            name: leaf
            for key, each in value.items()
            for name, leaf in _flat(each, f"{path}.{key}" if path else str(key)).items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= 50:
        if not any(isinstance(each, Mapping) for each in value):
            return {path: value}
        return {
            name: leaf
            for at, each in enumerate(value)
            for name, leaf in _flat(each, f"{path}.{at + 1}").items()
        }
    return {path: value}


def _path(name: str) -> str:
    if not name:
        return gettext("Value")
    return " / ".join(_field(part) for part in name.split("."))


def _field(name: str) -> str:
    """What a figure is called: by its own words here, else by those of the document that it is of."""
    return sentences.said(FIELD if name in FIELD else field_words.NAMES, name)


def valued(name: str, value: Any, currency: str, zone: str, lang: str) -> str:
    """A figure in words, by its name."""
    leaf = name.rpartition(".")[2]
    match value:
        case None | "":
            return "–"
        case bool():
            text = gettext("yes") if value else gettext("no")
        case int() if leaf in _MONEY or leaf.endswith("_micro"):
            text = fmt.money(value, currency)
        case int() if leaf in _ENERGY:
            text = fmt.energy(value, lang)
        case int():
            text = field_words.read(leaf, value, lang) or str(value)
        case str():
            text = _text(leaf, value, zone, lang)
        case list() | tuple():
            text = field_words.days(leaf, value, lang) or fmt.listed(
                (valued(name, each, currency, zone, lang) for each in value), lang
            )
        case _:
            text = _shortened(str(value))
    return text


#: Figures that are codes, by the name of the figure.
_WORDS: Final[Mapping[str, Mapping[str, Text]]] = {
    "why": WHY_REFUSED,
    "what": WHAT_REFUSED,
    "kind": PROPOSAL_KIND,
    # What supply decided says so by a code; what a person wrote stays as it is.
    "reason": sentences.REASON,
}


def _text(leaf: str, value: str, zone: str, lang: str) -> str:
    if leaf in _WORDS:
        return str(_WORDS[leaf].get(value, value))
    if leaf == "code":
        return named(value)
    if len(value) >= 19 and value[:4].isdigit() and value[10:11] in ("T", " "):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return _shortened(value)
        if at.tzinfo is not None:
            local = fmt.local(at, zone)
            return f"{fmt.full_date(local.date(), lang)} {local:%H:%M}"
    return _shortened(value)


def _shortened(value: str) -> str:
    return value if len(value) <= _TEXT_SHOWN else f"{value[:_TEXT_SHOWN]}…"


def found(row: FindingRow, currency: str, zone: str, lang: str) -> str:
    """The figures of a finding, in one line."""
    detail = {key: value for key, value in row.detail.items() if key in FIELD}
    return " · ".join(
        f"{sentences.said(FIELD, key)}{gettext(': ')}{valued(key, value, currency, zone, lang)}"
        for key, value in detail.items()
        if value not in (None, "")
    )
