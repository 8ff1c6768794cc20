"""Debts that have a name: what of a recharge goes to them, and when one arises.

Amounts are int micro-units, shares parts per million. A debt takes nothing that was not agreed:
at most its share of each recharge, at most its cap in seven days, never more than is left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """One open debt as a recharge meets it: what is left of it, the agreed share of a recharge,
    and `room_micro`, what its cap leaves for these seven days (None: no cap).
    """

    left_micro: int
    share_ppm: int
    room_micro: int | None = None


@dataclass(frozen=True, slots=True)
class RecoveryLimit:
    """What a tariff allows at most, over all debts together; `room_micro` as in `Agreement`."""

    share_ppm: int = PPM
    room_micro: int | None = None


def recovered_micro(
    *,
    recharge_micro: int,
    spendable_micro: int,
    debts: Sequence[Agreement],
    limit: RecoveryLimit,
) -> list[int]:
    """What each debt gets of a recharge, in the order given, which is the order of their age.

    Shares are of the whole recharge, cut off to whole micro-units. `spendable_micro` is what other
    deductions have left of it: all debts together never get more than that, nor more than the
    limit, so that a recharge never leaves less on the account than there was before it.
    """
    room = min(spendable_micro, recharge_micro * limit.share_ppm // PPM)
    if limit.room_micro is not None:
        room = min(room, limit.room_micro)
    taken = []
    for debt in debts:
        wanted = min(debt.left_micro, recharge_micro * debt.share_ppm // PPM)
        if debt.room_micro is not None:
            wanted = min(wanted, debt.room_micro)
        part = max(0, min(wanted, room))
        room -= part
        taken.append(part)
    return taken


def missing_micro(*, available_micro: int, taken_back_micro: int, emergency_micro: int) -> int:
    """How much of what is taken from a wallet neither it nor its emergency credit can give.

    Taking a recharge back leaves the wallet as if the recharge had not been: emergency credit that it
    repaid is in use again, as far as the account may go. What was used beyond that is missing. A wallet
    that stood below its emergency credit stays where it was: taking back never lifts one.
    """
    floor = min(available_micro, -emergency_micro)
    return max(0, floor - (available_micro - taken_back_micro))
