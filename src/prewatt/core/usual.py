"""What a recharge usually is, and from which amount on one is asked about once more.

An amount may be any up to the limit; a slip of the finger is one that is far from what is usual. It
is never refused for that: whoever takes the money looks at it a second time and says that it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prewatt.core.money import MICRO

#: So many latest recharges of an account, or of its property, are looked at.
OWN_LATEST: Final = 20
ALL_LATEST: Final = 200
#: With fewer than these an account, or a property, has nothing that is usual.
LEAST: Final = 3
#: An amount is unusual above so many times the usual one.
TIMES: Final = 10
#: Where nothing is usual yet, above so much.
UNKNOWN_LIMIT_MICRO: Final = 1_000 * MICRO


@dataclass(frozen=True, slots=True)
class Usual:
    """The median of latest recharges; 0 where there are too few. ``own`` says that they are the
    account's, else they are the property's.
    """

    micro: int
    own: bool

    def is_passed_by(self, amount_micro: int) -> bool:
        """Whether an amount is so large that it is asked about once more."""
        if not self.micro:
            return amount_micro > UNKNOWN_LIMIT_MICRO
        return amount_micro > TIMES * self.micro

    def times(self, amount_micro: int) -> int:
        """How many times the usual amount it is, rounded down; 0 where nothing is usual."""
        return amount_micro // self.micro if self.micro else 0


def usual_of(own_micro: Sequence[int], all_micro: Sequence[int]) -> Usual:
    """What is usual for an account: of its own latest recharges, else of those of its property."""
    if len(own_micro) >= LEAST:
        return Usual(_median(own_micro), own=True)
    return Usual(_median(all_micro) if len(all_micro) >= LEAST else 0, own=False)


def _median(amounts: Sequence[int]) -> int:
    """The middle amount, of two the lower: no amount is usual that nobody paid."""
    return sorted(amounts)[(len(amounts) - 1) // 2]
