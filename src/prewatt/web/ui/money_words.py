"""Stable codes of lets, refunds, debts and prices turned into sentences, and why a deed was refused.

As in ``sentences``, a code without a sentence is shown as its own words, so that nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from prewatt.billing.rerating import CorrectionRefused, CorrectionTooOld
from prewatt.billing.resale import ResaleRefused
from prewatt.billing.terms import (
    ChangeRefused,
    EventRefused,
    PricesRefused,
    TermsRefused,
    WithdrawalRefused,
)
from prewatt.core.temporary import LetRefused
from prewatt.debts.words import AgreementRefused, AmountRefused, DebtRefused
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.moves import lets, words
from prewatt.vending import taking_back
from prewatt.vending.debt_payments import DebtPaymentRefused
from prewatt.vending.refunds import RefundRefused

Text = str | Promise

DEBT_REASON: Final[Mapping[str, Text]] = {
    "reversed_payment": _("A payment was reversed after its credit was used"),
    "moved_credit": _("Credit of somebody else was used"),
    "arrears": _("The wallet was below zero"),
    "agreed": _("Agreed with the customer"),
    "let_shortfall": _("A let cost more than was paid for it"),
}
DEBT_ENDING: Final[Mapping[str, Text]] = {
    "": _("Open"),
    "paid": _("Paid"),
    "written_off": _("Written off"),
}
#: What happened to a debt, by the kind of its transfer.
DEBT_CHANGE: Final[Mapping[str, Text]] = {
    "DEBT": _("Written down"),
    "DEBT_RECOVERY": _("Share of a recharge"),
    "REVERSAL": _("Given back: the recharge was taken back"),
    "WRITE_OFF": _("Written off"),
    "settled": _("Paid out of the wallet"),
    "paid": _("Paid at the window"),
}
DEBT_SHOW: Final[Mapping[str, Text]] = {
    "open": _("Open debts"),
    "closed": _("Paid or written off"),
    "all": _("All debts"),
}
DEBT_SORT: Final[Mapping[str, Text]] = {
    "opened": _("Latest first"),
    "left": _("What is left"),
    "unit": _("Unit"),
}
#: Why a transfer was written, by its stored reason.
NOTE: Final[Mapping[str, Text]] = {
    **{f"debt.{key}": text for key, text in DEBT_REASON.items()},
    "debt.settled": _("Paid out of the wallet"),
    "debt.paid": _("Debt paid at the window"),
    "let.debt": _("What an earlier let had lacked"),
    "let.shortfall.loss": _("The property bears what a let lacked."),
    "debt.written_off": _("The property bears what was left of a debt."),
    "recharge.taken_back": _("Given back: the recharge was taken back"),
    "recharge.reversed.loss": _("The property bears what was used of a reversed payment."),
    "recharge.moved.loss": _("The property bears what was used of somebody else’s credit."),
    "let.deposit.taken": _("Deposit of the let, until its end"),
    "let.deposit.returned": _("Deposit of the let, given back"),
    "let.ended": _("The let has ended"),
    "let.left": _("The let was ended early"),
    "let.silent": _("The let has ended; its meter was silent"),
    "let.cancelled": _("The let was cancelled before it began"),
    "opening_balance": _("Brought in from the books before"),
    "moved_out": _("The customer moved out"),
}
REFUND_REASON: Final[Mapping[str, Text]] = {
    "let.ended": _("The let has ended"),
    "let.left": _("The let was ended early"),
    "let.silent": _("The let has ended; its meter was silent"),
    "let.cancelled": _("The let was cancelled before it began"),
    "moved_out": _("The customer moved out"),
}
REFUND_SHOW: Final[Mapping[str, Text]] = {
    "due": _("Due"),
    "paid": _("Paid out"),
    "all": _("All refunds"),
}
REFUND_SORT: Final[Mapping[str, Text]] = {
    "made": _("Latest first"),
    "amount": _("Amount"),
    "unit": _("Unit"),
}
REFUND_WAY: Final[Mapping[str, Text]] = {
    "cash": _("In cash"),
    "transfer": _("By bank transfer"),
}
LET_SHOW: Final[Mapping[str, Text]] = {
    "running": _("Running"),
    "announced": _("Announced"),
    "ended": _("Ended"),
    "all": _("All lets"),
}
LET_SORT: Final[Mapping[str, Text]] = {
    "end": _("End"),
    "begin": _("Begin"),
    "unit": _("Unit"),
    "balance": _("Balance"),
    "refund": _("Refund"),
}
LET_CLOSED: Final[Mapping[str, Text]] = {
    "ended": _("ended as agreed"),
    "left": _("left early"),
    "silent": _("ended, meter silent"),
    "cancelled": _("cancelled before it began"),
}
EVENT_SHOW: Final[Mapping[str, Text]] = {
    "coming": _("To come"),
    "past": _("Past"),
    "withdrawn": _("Withdrawn"),
    "all": _("All peaks"),
}
EVENT_SORT: Final[Mapping[str, Text]] = {"begin": _("Begin"), "group": _("Group")}
#: What becomes of used credit that is taken back, by a property's policy.
MISSING: Final[Mapping[str, Text]] = {
    "debt": _("The used part becomes a debt with a name"),
    "refuse": _("It is refused: all or nothing"),
    "loss": _("The property bears the used part"),
}
#: What becomes of what a let lacks at its end.
SHORT: Final[Mapping[str, Text]] = {
    "debt": _("It becomes a debt with a name"),
    "loss": _("The property bears it"),
}
SEVERITY: Final[Mapping[str, Text]] = {
    "warn": _("Warns whoever approves"),
    "refuse": _("An approval is refused"),
}
#: A transfer of a recharge that is taken back, by (kind, counter-account).
TAKING: Final[Mapping[str, Text]] = {
    "REVERSAL": _("The payment goes back"),
    "REVERSAL_DEBTS": _("A debt gets back what it had of this recharge"),
    "MOVE_OFF": _("The credit leaves this account"),
    "MOVE_ON": _("The credit arrives, whole"),
    "DEBT": _("What was used beyond emergency credit becomes a debt"),
    "ADJUSTMENT": _("What was used beyond emergency credit is the property's loss"),
}

#: What becomes of a supply when a recharge is taken back, as the look before it says.
SUPPLY_AFTER: Final[Mapping[str, Text]] = {
    "closed": _("The account is closed. No supply depends on it."),
    "owner": _("No supply is cut for this account."),
    "stays_cut": _("Supply is cut, and stays cut until a recharge is enough."),
    "connects": _("Supply is switched on at once."),
    "protected": _("All credit is used up then. The place is protected: supply stays on."),
    "used_up": _(
        "All credit is used up then. Supply is not cut by this: a new warning has to arrive first, "
        "and all seven gates have to be open."
    ),
    "emergency": _("Supply stays on, on emergency credit."),
    "on": _("Supply stays on."),
}

_MOVES: Final[Mapping[type[Exception], Text]] = {
    words.UnknownPlace: _("There is no such unit, customer or plan here any more."),
    words.UnitOccupied: _("Somebody lives there already. Choose a vacant unit."),
    words.UnitVacant: _("Nobody is there any more."),
    words.InFuture: _("That instant has not come yet."),
    words.NameTaken: _("The account number is in use already."),
    words.EmergencyRefused: _("Emergency credit cannot be as large as that."),
    words.RegisterMissing: _("A meter has never reported. Read its register and write it down."),
    lets.NotTemporary: _("This plan lets nothing for a time."),
    lets.PlaceTaken: _("The place is let at that time already, or a let of it is announced."),
}
_LET: Final[Mapping[str, Text]] = {
    "empty": _("Say until when: the end must come after now."),
    "out_of_season": _("The season of this plan does not hold today."),
    "beyond_season": _("That is after the season of this plan has ended."),
}
_TERMS: Final[Mapping[str, Text]] = {
    "members": _("A household has at least one person."),
    "contracted_w": _("That is more than can be contracted."),
    "words": _("A code is a short printable word."),
    "not_midnight": _("Terms begin with a local day."),
    "before_account": _("The account had not begun by then. Its first day is the earliest."),
    "books_closed": _("The books of that day are closed. Choose a day that is still open."),
    "archived": _("The readings of that time are archived, so it can no longer be charged anew."),
    "closed": _("The account is closed."),
    "same": _("These terms hold on that day already: nothing would change."),
}
_WITHDRAWAL: Final[Mapping[str, Text]] = {
    "unknown": _("Nothing changes on that day, or it was withdrawn already."),
    "begun": _("It has begun. Another change from a day on ends it."),
    "only": _("The account begins with that plan. Another plan from a day on ends it."),
}
#: Parts of a bill (``billing.plan_costs.Part``).
BILL_PART: Final[Mapping[str, Text]] = {
    "energy": _("Energy"),
    "usage_fee": _("Fees by the kWh"),
    "standing": _("Standing charge"),
    "day_fee": _("Fees by the day"),
    "demand": _("Demand charge"),
    "bound": _("Minimum or maximum bill"),
    "tax": _("Tax"),
    "subsidy": _("Subsidy"),
    "rebate": _("Rebate"),
}
_CHANGE: Final[Mapping[str, Text]] = {
    "past": _(
        "A plan changes from a day to come. For days that have passed, put a wrong plan right."
    ),
    "not_midnight": _("A plan changes with a local day."),
    "unknown": _("There is no such plan any more."),
    "temporary": _("That plan is for places that are let for a time."),
    "not_in_force": _("That plan has no version in force by then."),
    "closed": _("The account is closed."),
    "same": _("The account is on that plan on that day already: nothing would change."),
    "nobody": _("No account is found by that."),
    "many": _("At most 2,000 accounts at once. Choose fewer."),
}
_EVENT: Final[Mapping[str, Text]] = {
    "empty": _("It must end after it begins."),
    "begun": _("A peak is announced before it begins. Choose a time to come."),
    "overlaps": _("The group has a peak in that time already."),
    "words": _("A group is a short printable word."),
    "unknown": _("There is no such peak here."),
    "withdrawn": _("It was withdrawn already."),
    "over": _("It is over; what was used in it keeps its price."),
}
_PRICES: Final[Mapping[str, Text]] = {
    "empty": _("No price was written."),
    "order": _("Prices go on where the series ends, in the order of time."),
    "price": _("That is beyond what a price can be."),
    "words": _("A group is a short printable word."),
}
_REFUND: Final[Mapping[str, Text]] = {
    "way_unknown": _("Choose how it is paid out."),
    "unknown": _("There is no such refund here."),
    "paid": _("It was paid out already. Do not pay it again."),
}
_DEBT_PAYMENT: Final[Mapping[str, Text]] = {
    "unknown": _("The debt is closed, or the account is not here."),
    "closed": _("The debt is closed; nothing is left of it."),
    "amount": _("That is more than one payment may be."),
    "way": _("Choose how it is paid: cash, online or bank transfer."),
}
_TAKING_BACK: Final[Mapping[type[Exception], Text]] = {
    taking_back.UnknownRecharge: _("There is no such recharge here."),
    taking_back.AlreadyTakenBack: _("This recharge was taken back already."),
    taking_back.WrongAccount: _(
        "Credit moves only to another open account of the same property and seller."
    ),
}


def refused(error: Exception) -> str:
    """Why a deed was refused, as a sentence; nothing was changed by it."""
    text = _told(error)
    return str(text) if text is not None else gettext("It cannot be done as asked.")


def _told(error: Exception) -> Text | None:
    if isinstance(error, CorrectionRefused) and error.reason == "same":
        return _CHANGE["same"]
    for kind, table in _BY_REASON:
        if isinstance(error, kind):
            return table.get(str(getattr(error, "reason", "")))
    if isinstance(error, words.MoveRefused):
        return _told_move(error)
    return next((said for kind, said in _BY_KIND if isinstance(error, kind)), None)


#: Refusals that say their reason by a stable word.
_BY_REASON: Final[tuple[tuple[type[Exception], Mapping[str, Text]], ...]] = (
    (LetRefused, _LET),
    (TermsRefused, _TERMS),
    (ChangeRefused, _CHANGE),
    (WithdrawalRefused, _WITHDRAWAL),
    (EventRefused, _EVENT),
    (PricesRefused, _PRICES),
    (RefundRefused, _REFUND),
    (DebtPaymentRefused, _DEBT_PAYMENT),
)
#: Refusals that are one reason each; the narrower first.
_BY_KIND: Final[tuple[tuple[type[Exception], Text], ...]] = (
    (KeyReused, _("This form was already used for something else. Load the page again.")),
    (PeriodClosed, _("The books of that day are closed.")),
    *_TAKING_BACK.items(),
    (AmountRefused, _("That is more than there is to take, or nothing.")),
    (AgreementRefused, _("A share lies between 0 and 100 per cent.")),
    (DebtRefused, _("The debt is closed, or the account is not here.")),
    (
        CorrectionTooOld,
        _("The readings of that time are archived, so it can no longer be charged anew."),
    ),
    (CorrectionRefused, _("A wrong plan is put right from a day that has passed.")),
    (ResaleRefused, _("The purchase price is not a price.")),
)


def _told_move(error: words.MoveRefused) -> Text | None:
    if isinstance(error, words.TooEarly):
        return _("Somebody else paid then. It can be later only.")
    if isinstance(error, words.RegisterRefused):
        return gettext("Meter %(meter)s: that register is not credible. Read it once more.") % {
            "meter": error.serial
        }
    if isinstance(error, words.RechargeFailed):
        return _("The money could not be taken.")
    return next((said for kind, said in _MOVES.items() if isinstance(error, kind)), None)


def paid_too_little(needed: str) -> str:
    """What a let needs before it begins."""
    return gettext("Rent and deposit together are %(needed)s. Take at least that first.") % {
        "needed": needed
    }


def instant(text: str) -> datetime:
    """An instant of a stored answer."""
    return datetime.fromisoformat(text)


def credit_used(used: str) -> str:
    """Why a property that takes back all or nothing refuses."""
    return gettext(
        "%(used)s of it have been used beyond emergency credit, and this property takes back all or "
        "nothing. "
        "The price rules say so; they can be changed there."
    ) % {"used": used}


def not_one(found: int) -> str:
    """Why a text does not name the right account."""
    if found:
        return gettext("That names several accounts. Write the account's number.")
    return gettext(
        "No open account has this unit, number or meter. Write it as the account's page shows it."
    )


def same_account() -> str:
    """Why a recharge does not move to where it is."""
    return gettext("It is on this account already.")


def price_digits(nano: int) -> str:
    """A price as a field shows it: four decimals, or as many as it has."""
    whole, part = divmod(nano, 1_000_000_000)
    return f"{whole}.{f'{part:09d}'.rstrip('0').ljust(4, '0')}"
