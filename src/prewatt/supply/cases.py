"""One account on its way through a decision: how it stands, by which rules, and what is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.core.levels import Level
from prewatt.core.vocabulary import RelayState
from prewatt.supply.policy import Rules
from prewatt.supply.queries import Standing

#: What asks for a decision where credit was taken back.
TAKEN_BACK: Final = "taken_back"


@dataclass(frozen=True, slots=True)
class Case:
    """An account being decided; ``as_of`` is when what is decided on happened.

    ``fired_mask`` and ``would_mask`` are what the levels came to, ``due`` the level that fired just
    now and is to be told, ``low_since`` since when the present low balance lasts.
    """

    standing: Standing
    rules: Rules
    fired_mask: int
    would_mask: int
    due: Level | None
    is_live: bool
    as_of: datetime
    low_since: datetime | None
    #: What people agreed to keep the relay at; None where the rules decide.
    by_hand: RelayState | None = None

    @property
    def account_id(self) -> int:
        """The account."""
        return self.standing.account_id

    @property
    def amounts(self) -> tuple[int, int, int]:
        """Available, spend per day, emergency credit: what core.levels takes."""
        each = self.standing
        return each.available_micro, each.spend_per_day_micro, each.emergency_micro

    @property
    def is_exhausted(self) -> bool:
        """Whether all credit is used up, emergency credit included."""
        return self.standing.available_micro <= -self.standing.emergency_micro

    @property
    def is_cut_due(self) -> bool:
        """Whether a cut is asked for: credit is used up, or a case of tampering withholds supply."""
        return self.is_exhausted or self.standing.withheld_since is not None

    @property
    def warned_since(self) -> datetime | None:
        """Since when a warning counts for that cut; None where there is nothing to warn of."""
        if self.standing.withheld_since is not None:
            return self.standing.withheld_since
        return self.low_since if self.is_exhausted else None
