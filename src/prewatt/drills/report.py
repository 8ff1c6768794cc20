"""What a drill found, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

SHOWN_MAX = 50


@dataclass(slots=True)
class Report:
    """Counts of what was acknowledged and what survived, and every broken invariant in words."""

    drill: str
    seed: str
    broker: str = ""
    rounds: int = 0
    seconds: float = 0.0
    #: How often each thing was done to it.
    done: dict[str, int] = field(default_factory=dict)
    ended_by_themselves: int = 0
    readings_taken: int = 0
    readings_acknowledged: int = 0
    readings_survived: int = 0
    readings_held: int = 0
    recharges_acknowledged: int = 0
    recharges_survived: int = 0
    acknowledged_micro: int = 0
    charged_micro: int = 0
    charged_wh: int = 0
    orders: int = 0
    messages: int = 0
    comparisons: int = 0
    load_average: tuple[float, ...] = ()
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was broken."""
        return not self.broken

    def as_json(self) -> str:
        """One object."""
        return json.dumps(dataclasses.asdict(self) | {"holds": self.holds})

    def as_text(self) -> str:
        """A few lines, then each broken invariant on its own."""
        done = ", ".join(f"{name} {count}" for name, count in sorted(self.done.items()))
        lines = [
            (
                f"drill {self.drill}, seed {self.seed}: {self.rounds} rounds in {self.seconds:.0f} s "
                f"({self.broker}); {done or 'nothing done'}; processes that ended by themselves and were "
                f"started again: {self.ended_by_themselves}"
            ),
            (
                f"acknowledged: {self.readings_acknowledged:,} of {self.readings_taken:,} readings taken, "
                f"{self.recharges_acknowledged:,} recharges of {_money(self.acknowledged_micro)}"
            ),
            (
                f"survived:     {self.readings_survived:,} readings ({self.readings_held:,} held with a "
                f"reason), {self.recharges_survived:,} recharges"
            ),
            (
                f"charged:      {self.charged_wh:,} Wh, {_money(self.charged_micro)}; "
                f"{self.orders:,} orders, {self.messages:,} messages; books compared {self.comparisons} times"
            ),
            *self.notes,
        ]
        if self.holds:
            return "\n".join([*lines, "Every invariant holds."])
        shown = self.broken[:SHOWN_MAX]
        more = len(self.broken) - len(shown)
        lines += [f"BROKEN: {each}" for each in shown]
        return "\n".join(
            [*lines, f"{len(self.broken)} broken." + (f" {more} not shown." * bool(more))]
        )


def _money(micro: int) -> str:
    """Micro-units as a number with six decimals."""
    return f"{micro // 1_000_000:,}.{micro % 1_000_000:06}"
