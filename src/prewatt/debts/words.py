"""What is asked about debts, what it answers, and every way in which it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.debts.models import Debt, DebtPolicy


class DebtRefused(Exception):
    """The deed cannot be done as asked; nothing was changed. ``code`` is a stable word."""

    code = "debts.refused"


class UnknownDebt(DebtRefused):
    """There is no such open debt, or no such account, in the actor's scope."""

    code = "debts.unknown"


class AmountRefused(DebtRefused):
    """The amount is not above zero, or more than there is to take; the message says which."""

    code = "debts.amount"


class AgreementRefused(DebtRefused):
    """A share lies between nothing and the whole, a cap is not below zero."""

    code = "debts.agreement"


@dataclass(frozen=True, slots=True)
class Policy:
    """A property's rule for what was used and is not paid for (``DebtPolicy``)."""

    reversed_payment: DebtPolicy.Missing = DebtPolicy.Missing.DEBT
    moved_credit: DebtPolicy.Missing = DebtPolicy.Missing.DEBT
    share_ppm: int = 250_000
    weekly_cap_micro: int = 0
    let_shortfall: DebtPolicy.Missing = DebtPolicy.Missing.DEBT
    later_let_pays: bool = True


@dataclass(frozen=True, slots=True)
class NewDebt:
    """A debt to be written down in an event. ``amount_micro`` is above zero."""

    account_id: int
    property_id: int
    legal_entity_id: int
    amount_micro: int
    reason: Debt.Reason
    share_ppm: int
    weekly_cap_micro: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class NamedDebt:
    """A debt that has its number; ``code`` marks its transfers."""

    debt_id: int
    account_id: int
    number: int
    code: str


@dataclass(frozen=True, slots=True)
class DebtOpened:
    """A debt that stands, as its key keeps it."""

    debt_id: int
    account_id: int
    code: str
    amount_micro: int
    event_id: int
    available_after_micro: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class DebtReduced:
    """What was settled or written off, and what is left; the debt is closed when nothing is."""

    debt_id: int
    code: str
    amount_micro: int
    left_micro: int
    event_id: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class DebtView:
    """A debt as people see it."""

    debt_id: int
    account_id: int
    code: str
    reason: Debt.Reason
    note: str
    principal_micro: int
    left_micro: int
    share_ppm: int
    weekly_cap_micro: int
    opened_at: datetime
    opened_by: str
    closed_at: datetime | None
    ending: str
