"""What rating remembers of accounts, what it must know of them, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64

Int16 = npt.NDArray[np.int16]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class UsageState:
    """What one batch leaves for the next, one row per account: the columns of the same names in
    `account_state`.

    Carries are the remainders of `rating.CARRY_DENOMINATOR`: the sum of the rests of all rows. `step_window` is the key of the
    window that `step_wh[account, count]` belongs to, the first instant in microseconds or the
    number of the purchase; 0 before anything was counted. `allowance_wh` was used of the allowance
    of `allowance_window`.
    """

    carry_energy: Int64
    carry_fee: Int64
    carry_tax: Int64
    carry_subsidy: Int64
    step_window: Int64
    step_wh: Int64
    allowance_window: Int64
    allowance_wh: Int64

    @classmethod
    def empty(cls, accounts: int, columns: int = 0) -> UsageState:
        """The state of accounts that have used nothing yet."""
        none = np.zeros((7, accounts), dtype=np.int64)
        return cls(
            carry_energy=none[0],
            carry_fee=none[1],
            carry_tax=none[2],
            carry_subsidy=none[3],
            step_window=none[4],
            step_wh=np.zeros((accounts, columns), dtype=np.int64),
            allowance_window=none[5],
            allowance_wh=none[6],
        )

    def copied(self, columns: int) -> UsageState:
        """A copy with at least so many counts per account."""
        step_wh = np.zeros(
            (self.step_wh.shape[0], max(columns, self.step_wh.shape[1])), dtype=np.int64
        )
        step_wh[:, : self.step_wh.shape[1]] = self.step_wh
        return UsageState(
            self.carry_energy.copy(),
            self.carry_fee.copy(),
            self.carry_tax.copy(),
            self.carry_subsidy.copy(),
            self.step_window.copy(),
            step_wh,
            self.allowance_window.copy(),
            self.allowance_wh.copy(),
        )


@dataclass(frozen=True, slots=True)
class DatedTerms:
    """Later terms of accounts, sorted by (account_index, from_us): they hold for windows that
    begin at or after `from_us`.
    """

    account_index: Int64
    from_us: Int64
    members: Int64
    contracted_w: Int64


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What an account's contract says that prices depend on, one row per account.

    A window keeps the terms that are in force at its first instant, an account's first window
    those of its opening; `dated` are later ones. `purchase_no` counts the recharges and names the
    windows that begin with a purchase, which have the terms of these columns.
    """

    members: Int64
    contracted_w: Int64
    purchase_no: Int64
    dated: DatedTerms | None = None

    @classmethod
    def plain(cls, accounts: int) -> AccountTerms:
        """Households of one with nothing contracted and no purchase."""
        none = np.zeros(accounts, dtype=np.int64)
        return cls(np.ones(accounts, dtype=np.int64), none, none)

    def at(self, account: Int64, at_us: Int64) -> tuple[Int64, Int64]:
        """(members, contracted W) of accounts at instants, columns of one length."""
        members, contracted_w = self.members[account], self.contracted_w[account]
        dated, size = self.dated, 0 if self.dated is None else self.dated.from_us.size
        if dated is None or size == 0:
            return members, contracted_w
        order = np.lexsort(
            (
                np.repeat([0, 1], [size, account.size]),
                np.concatenate([dated.from_us, at_us]),
                np.concatenate([dated.account_index, account]),
            )
        )
        # Going through terms and questions by account and time, the latest of the terms so far
        # answers a question, if it is of the same account.
        latest = np.maximum.accumulate(np.where(order < size, np.arange(order.size), -1))
        asked = order >= size
        question, answer = order[asked] - size, latest[asked]
        position = order[np.maximum(answer, 0)]
        found = (answer >= 0) & (dated.account_index[position % size] == account[question])
        question, position = question[found], position[found]
        members[question] = dated.members[position]
        contracted_w[question] = dated.contracted_w[position]
        return members, contracted_w


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """Charged parts of segments in the order of the segments; columns of one length but for
    `late`, not to be written to.

    `source_row` is the index of the segment, of which there can be several parts: one for each
    step, and for what is free. `price_nano_per_kwh` is net of inclusive taxes. Charges are
    micro-units: energy, fees per kWh, the taxes on both, and as a negative amount what somebody
    else pays. A whole-usage tariff's charge for reaching a step is on the part that reaches it.

    `rests` has what the charges of each component leave of their exact amounts, in the component's
    denominator, if it was asked for: charge × denominator + rest is exact.

    `late[segment]` says which segments lie in a window before the account's current one; they are
    not rated and have no part here. `state` is what the next batch needs.
    """

    source_row: Int64
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64
    band: Int16
    step: Int16
    price_nano_per_kwh: Int64
    charge_energy: Int64
    charge_fee: Int64
    charge_tax: Int64
    charge_subsidy: Int64
    late: Bool
    state: UsageState
    rests: Mapping[str, Int64] | None = None

    def __len__(self) -> int:
        return int(self.source_row.size)
