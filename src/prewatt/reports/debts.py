"""Reads debts and refunds: what customers owe beside the wallet, and what is owed to those who left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.debts.models import PPM, Debt
from prewatt.debts.recovery import WEEK
from prewatt.reports.holders import (
    HOLDER_COLUMNS,
    HOLDER_JOINS,
    HOLDER_WIDTH,
    Holding,
    Who,
    holding_of,
    who,
)
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.owed import DebtRow
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place

DEBT_SHOWS: Final = ("open", "closed", "all")
DEBT_SORTS: Final = ("opened", "left", "unit")
REFUND_SHOWS: Final = ("due", "paid", "all")
REFUND_SORTS: Final = ("made", "amount", "unit")
_MICRO: Final = 1_000_000


DebtList = Listing[DebtRow]


@dataclass(frozen=True, slots=True)
class DebtChange:
    """One transfer of a debt: ``amount_micro`` below zero lowers it. ``receipt`` where it was paid."""

    at: datetime
    kind: TransferKind
    reason: str
    amount_micro: int
    left_micro: int
    event_id: int
    receipt: str
    line: int


@dataclass(frozen=True, slots=True)
class DebtPage:
    """A debt with everything that happened to it, and what it may take of the next recharge."""

    place: Place
    now: datetime
    debt: DebtRow
    holding: Holding
    opened_by: str
    origin_receipt: str
    origin_recharge: int | None
    origin_document: str
    changes: tuple[DebtChange, ...]
    week_micro: int

    @property
    def example_micro(self) -> int:
        """A recharge to explain a share by: 20 of the currency."""
        return 20 * _MICRO

    @property
    def of_example_micro(self) -> int:
        """What the debt would have of the example, cap and rest regarded, with a week unused."""
        share = self.example_micro * self.debt.share_ppm // PPM
        cap = self.debt.weekly_cap_micro or share
        return min(share, cap, self.debt.left_micro)

    @property
    def settle_most_micro(self) -> int:
        """The most that can be paid out of the wallet now."""
        return max(0, min(self.debt.left_micro, self.holding.available_micro))


@dataclass(frozen=True, slots=True)
class RefundRow:
    """What is owed to somebody who left; ``paid_*`` are set once it was paid out."""

    refund_id: int
    who: Who
    number: int
    amount_micro: int
    reason: str
    made_at: datetime
    made_by: str
    paid_at: datetime | None
    paid_by: str
    paid_way: str
    paid_reference: str
    residual_micro: int = 0

    @property
    def code(self) -> str:
        """Its name on paper."""
        return f"F-{self.number}"

    @property
    def rounding_micro(self) -> int:
        """What rounding did to what was left: below zero where the property keeps it."""
        return -self.residual_micro

    @property
    def left_micro(self) -> int:
        """What was left on the account; rounding kept ``residual_micro`` of it, or added to it."""
        return self.amount_micro + self.residual_micro


RefundList = Listing[RefundRow]


@dataclass(frozen=True, slots=True)
class RefundPage:
    """One refund and whose it is."""

    place: Place
    now: datetime
    refund: RefundRow
    holding: Holding


_DEBTS = f"""
SELECT d.id, d.code, d.reason, d.note, d.principal_micro,
       coalesce(x.amount, 0)::bigint, d.share_ppm, d.weekly_cap_micro, d.opened_at, d.closed_at,
       d.ending, d.opened_by, d.origin_event_id, {HOLDER_COLUMNS}
FROM debt d JOIN account a ON a.id = d.account_id
LEFT JOIN LATERAL (SELECT sum(t.amount) AS amount FROM transfer t WHERE t.account_id = d.account_id
    AND t.counter_account = %(debts)s AND t.code = d.code) x ON true
{HOLDER_JOINS}
WHERE d.property_id = %(property)s AND (%(debt)s::bigint IS NULL OR d.id = %(debt)s)
  AND (%(account)s::bigint IS NULL OR d.account_id = %(account)s)
  AND (%(show)s = 'all' OR (d.closed_at IS NULL) = (%(show)s = 'open'))
ORDER BY d.opened_at DESC, d.id DESC
"""  # noqa: S608 - only our own constants are put in
_DEBT_WHO: Final = 13


def debts(
    *, actor: Actor, now: datetime, show: str = "open", query: str = "", sort: str = "opened",
    limit: int = PAGE,
) -> DebtList:  # fmt: skip
    """Open, closed or all debts, found by text and sorted; the sum is what is left of them."""
    with scope(actor):
        place = place_of(actor)
        found = [_debt(row) for row in _found(place, show=show)]
    words = query.casefold()
    found = [row for row in found if row.who.matches(query) or words == row.code.casefold()]
    if sort == "left":
        found.sort(key=lambda row: -row.left_micro)
    elif sort == "unit":
        found.sort(key=lambda row: (row.who.unit, row.code))
    left = sum(row.left_micro for row in found)
    return DebtList(place, now, tuple(found[:limit]), len(found), left)


def open_debts_of(place: Place, account_id: int) -> tuple[DebtRow, ...]:
    """The open debts of an account, newest first, inside the caller's scope."""
    return tuple(_debt(row) for row in _found(place, show="open", account_id=account_id))


def debt_page(*, actor: Actor, debt_id: int, now: datetime) -> DebtPage:
    """One debt. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = _found(place, show="all", debt_id=debt_id)
        if not found:
            raise NoSuchThing(f"no debt {debt_id} in scope")
        row = found[0]
        debt = _debt(row)
        holding = holding_of(actor, debt.who.account_id)
        changes = _changes(debt)
        recharge_id, receipt, document = _origin(debt.who.account_id, row[12])
        names = actor_names([row[11]])
    since = now - WEEK
    week = -sum(
        each.amount_micro
        for each in changes
        if each.kind is TransferKind.DEBT_RECOVERY and each.at > since
    )
    return DebtPage(
        place, now, debt, holding, names.get(row[11], ""), receipt, recharge_id, document, changes,
        week,
    )  # fmt: skip


def _found(
    place: Place, *, show: str, debt_id: int | None = None, account_id: int | None = None
) -> list[tuple[Any, ...]]:
    return rows(
        _DEBTS,
        {
            "property": place.property_id,
            "show": show,
            "debt": debt_id,
            "account": account_id,
            "debts": int(CounterAccount.DEBTS),
        },
    )


def _debt(row: tuple[Any, ...]) -> DebtRow:
    return DebtRow(
        row[0], who(row[_DEBT_WHO : _DEBT_WHO + HOLDER_WIDTH]), row[1], Debt.Reason(row[2]), row[3],
        row[4], row[5], row[6], row[7], row[8], row[9], row[10],
    )  # fmt: skip


def _changes(debt: DebtRow) -> tuple[DebtChange, ...]:
    """Every transfer of the debt, newest first, each with what was left after it."""
    found = rows(
        """SELECT t.booked_at, t.kind, t.reason, t.amount,
                  sum(t.amount) OVER (ORDER BY t.seq)::bigint, t.event_id,
                  coalesce(d.series || '-' || d.number, ''), t.seq
           FROM transfer t
           LEFT JOIN document d ON d.event_id = t.event_id AND d.kind = 'receipt'
           WHERE t.account_id = %s AND t.counter_account = %s AND t.code = %s ORDER BY t.seq DESC""",
        [debt.who.account_id, int(CounterAccount.DEBTS), debt.code],
    )
    return tuple(DebtChange(row[0], TransferKind(row[1]), *row[2:]) for row in found)


def _origin(account_id: int, event_id: int) -> tuple[int | None, str, str]:
    """The recharge whose taking back made the debt: (its event, its receipt, the paper about it)."""
    found = rows(
        """SELECT t.corrects_event_id, coalesce(r.series || '-' || r.number, ''),
                  coalesce(v.series || '-' || v.number, '')
           FROM transfer t
           JOIN payment p ON p.event_id = t.corrects_event_id
           LEFT JOIN document r ON r.event_id = t.corrects_event_id AND r.kind = 'receipt'
           LEFT JOIN document v ON v.event_id = t.event_id AND v.series = 'V'
           WHERE t.account_id = %s AND t.event_id = %s AND t.corrects_event_id IS NOT NULL
           ORDER BY t.seq LIMIT 1""",
        [account_id, event_id],
    )
    return (int(found[0][0]), str(found[0][1]), str(found[0][2])) if found else (None, "", "")


_REFUNDS = f"""
SELECT r.id, r.number, r.amount_micro, r.reason, r.made_at, r.made_by, r.paid_at, r.paid_by,
       r.paid_way, r.paid_reference, coalesce(k.residual, 0)::bigint, {HOLDER_COLUMNS}
FROM refund r JOIN account a ON a.id = r.account_id
LEFT JOIN LATERAL (SELECT -sum(t.amount) AS residual FROM transfer t
    WHERE t.account_id = r.account_id AND t.event_id = r.event_id
      AND t.counter_account = {int(CounterAccount.ROUNDING)}) k ON true
{HOLDER_JOINS}
WHERE r.property_id = %(property)s AND (%(refund)s::bigint IS NULL OR r.id = %(refund)s)
  AND (%(show)s = 'all' OR r.state = %(show)s)
ORDER BY r.made_at DESC, r.id DESC
"""  # noqa: S608 - only our own constants are put in
_REFUND_WHO: Final = 11


def refunds(
    *, actor: Actor, now: datetime, show: str = "due", query: str = "", sort: str = "made",
    limit: int = PAGE,
) -> RefundList:  # fmt: skip
    """Refunds due, paid out, or all; found by text and sorted; with their sum."""
    with scope(actor):
        place = place_of(actor)
        found = _refunds(place, show, None)
    words = query.casefold()
    found = [row for row in found if row.who.matches(query) or words == row.code.casefold()]
    if sort == "amount":
        found.sort(key=lambda row: -row.amount_micro)
    elif sort == "unit":
        found.sort(key=lambda row: (row.who.unit, row.number))
    together = sum(row.amount_micro for row in found)
    return RefundList(place, now, tuple(found[:limit]), len(found), together)


def refund_page(*, actor: Actor, refund_id: int, now: datetime) -> RefundPage:
    """One refund. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = _refunds(place, "all", refund_id)
        if not found:
            raise NoSuchThing(f"no refund {refund_id} in scope")
        holding = holding_of(actor, found[0].who.account_id)
    return RefundPage(place, now, found[0], holding)


def _refunds(place: Place, show: str, refund_id: int | None) -> list[RefundRow]:
    found = rows(_REFUNDS, {"property": place.property_id, "show": show, "refund": refund_id})
    names = actor_names(code for row in found for code in (row[5], row[7]))
    return [
        RefundRow(
            row[0], who(row[_REFUND_WHO : _REFUND_WHO + HOLDER_WIDTH]), row[1], row[2], row[3],
            row[4], names.get(row[5], ""), row[6], names.get(row[7], ""), row[8], row[9], row[10],
        )
        for row in found
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewDebtForm:
    """An account of which a debt can be written down."""

    place: Place
    now: datetime
    holding: Holding
    debts: tuple[DebtRow, ...]


def new_debt_form(*, actor: Actor, account_id: int, now: datetime) -> NewDebtForm:
    """The account before a debt is written down. Raises NoSuchThing, PermissionRefused."""
    require(actor, "debts.manage")
    with scope(actor):
        place = place_of(actor)
        holding = holding_of(actor, account_id)
        debts_now = open_debts_of(place, account_id)
    return NewDebtForm(place, now, holding, debts_now)
