"""What tariffs take of a recharge: standing charges and fees that are collected by the month.

The first recharge in a local month collects the whole of that month, and the days before it that no
recharge has collected; a later one has nothing left to do. Never more than the recharge itself is
taken: where it does not suffice, whole days are collected in order of time and the rest waits for
the next one. A month that an account does not live to the end is given back when it closes
(``daily``).

``vending`` asks by ``settings.PREWATT_DUES_AT_RECHARGE`` and states in its ``ports`` what it expects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from weakref import WeakKeyDictionary

from django.db import connection

from prewatt.billing.day_charges import COLLECTED, SOURCE, dated_charges, store_carries
from prewatt.billing.day_legs import Line, legs_of, with_tax
from prewatt.billing.days import DatedRows, DayAccount, dated_rows, load_accounts, tariffs_where
from prewatt.billing.peaks import month_of
from prewatt.core.civil_time import instant_us
from prewatt.core.debts import PPM
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Collect
from prewatt.ledger.operations import Leg

_NANO_PER_MICRO = 1_000


@dataclass(frozen=True, slots=True)
class TariffDue:
    """What the tariff takes of one recharge; see ``vending.ports``."""

    legs: tuple[Leg, ...] = ()
    collected_micro: int = 0
    debt_share_ppm: int = PPM
    weekly_cap_micro: int = 0


NOTHING = TariffDue()


@dataclass(frozen=True, slots=True)
class Dues:
    """The answers for a set of recharges, and the accounts that they move once they are booked."""

    each: tuple[TariffDue, ...]
    moved: tuple[DayAccount, ...]
    #: No tariff has a say in recharges at these properties as long as this is their epoch.
    is_silent: bool = False

    def keep(self) -> None:
        """Write how far the accounts are collected now; the caller holds their locks."""
        if self.moved:
            store_carries(self.moved, [account.daily_through for account in self.moved])


def dues_at_recharge(
    *,
    recharges: Sequence[tuple[int, int]],
    now: datetime,
    epochs: Mapping[int, int] | None = None,
) -> Dues:
    """What is collected of each (account, amount in micro-units), in the order given.

    Recharges of one account follow one another. Reads in the caller's transaction, writes nothing.
    Which tariffs have a say is remembered by the properties' ``epochs``, where the caller has read
    them: every new version begins another one.
    """
    tariff_ids = _tariffs_of_epochs(epochs)
    if not tariff_ids:
        return Dues((NOTHING,) * len(recharges), (), is_silent=epochs is not None)
    accounts = {
        each.account_id: each
        for each in load_accounts(sorted({account for account, _ in recharges}), tariff_ids)
    }
    dues, moved = [], {}
    for account_id, amount in recharges:
        account = accounts.get(account_id)
        due = NOTHING if account is None else _due(account, amount, instant_us(now))
        if account is not None and due.legs:
            moved[account_id] = account
        dues.append(due)
    return Dues(tuple(dues), tuple(moved.values()))


def _tariffs_of_epochs(epochs: Mapping[int, int] | None) -> list[int]:
    """The tariffs in scope that have a say in recharges; of these properties, if they are given."""
    if epochs is None:
        return tariffs_where(_has_a_say)
    known = _silent.setdefault(connection.connection, {})
    if all(known.get(place) == epoch for place, epoch in epochs.items()):
        return []
    found = tariffs_where(_has_a_say, list(epochs))
    if not found:
        known.update(epochs)
    return found


#: For each connection, by property: the last epoch seen in which no tariff had a say. A connection
#: belongs to one database and one login, so what it has seen there holds for whoever uses it next.
_silent: WeakKeyDictionary[object, dict[int, int]] = WeakKeyDictionary()


def _has_a_say(tariff: Tariff) -> bool:
    collects = any(charge.collect is Collect.FIRST_RECHARGE for charge in tariff.dated)
    return collects or tariff.debt is not None


def _due(account: DayAccount, amount: int, now_us: int) -> TariffDue:
    today = account.plan.day_at(now_us)
    limit = account.plan.stretch_at(today).tariff.debt
    taxed = _collected(account, amount, month_of(today)[1])
    due = TariffDue(
        legs=tuple(_legs(account, taxed)),
        collected_micro=sum(line.micro + tax for line, tax in taxed),
    )
    if limit is None:
        return due
    return replace(
        due,
        debt_share_ppm=limit.share_ppm,
        weekly_cap_micro=limit.weekly_cap_nano // _NANO_PER_MICRO,
    )


def _collected(account: DayAccount, amount: int, month_end: int) -> list[tuple[Line, int]]:
    """The uncollected days up to the month's end that the amount pays for, with their taxes."""
    if not account.plan.collects_at_recharge:
        return []
    first = max(account.opening_day, account.collected_through + 1)
    owed = account.owed_ranges(first, month_end)
    if not owed:
        return []
    rows = dated_rows(account.plan, first, month_end, Collect.FIRST_RECHARGE)
    before = account.carry_standing, account.carry_fee, account.carry_tax
    taxed = _charge(account, rows, owed)
    through = _affordable(taxed, amount, month_end - 1)
    if through < month_end - 1:
        account.carry_standing, account.carry_fee, account.carry_tax = before
        paid = [(begin, min(end, through + 1)) for begin, end in owed if begin <= through]
        taxed = _charge(account, rows, paid) if paid else []
    if taxed:
        account.collected_through = through
    return taxed


def _charge(
    account: DayAccount, rows: DatedRows, owed: Sequence[tuple[int, int]]
) -> list[tuple[Line, int]]:
    lines = dated_charges(
        rows, [(account, *days) for days in owed], dict.fromkeys(SOURCE, COLLECTED)
    )
    return with_tax(lines, {account.account_id: account})


def _affordable(taxed: Sequence[tuple[Line, int]], amount: int, last: int) -> int:
    """The last day through which the amount pays for every line; ``last`` if it does for all."""
    total = 0
    for line, tax in taxed:
        total += line.micro + tax
        if total > amount:
            return line.day - 1
    return last


def _legs(account: DayAccount, taxed: Sequence[tuple[Line, int]]) -> list[Leg]:
    """One transfer for each month, charge and tax, over the days that it pays for."""
    summed: dict[tuple[object, ...], tuple[Line, int]] = {}
    for line, tax in taxed:
        key = month_of(line.day), line.code, line.tax
        if key in summed:
            whole, taxes = summed[key]
            line = replace(whole, end_day=line.end_day, micro=whole.micro + line.micro)  # noqa: PLW2901
            tax += taxes  # noqa: PLW2901
        summed[key] = line, tax
    accounts: Mapping[int, DayAccount] = {account.account_id: account}
    return legs_of(list(summed.values()), accounts).get(account.account_id, [])
