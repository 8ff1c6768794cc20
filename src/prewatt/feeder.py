"""One of the processes that feed the demo's history: ``python -m prewatt.feeder PLAN N OF``."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from prewatt import wiring


def main(plan: Path, number: int, of: int) -> None:
    """Feed every ``of``-th account of the plan, starting with the ``number``-th; print the days."""
    wiring.start_django()
    from prewatt.sim.history import HistoryUnit, feed
    from prewatt.sim.property import demo_units

    facts = json.loads(plan.read_text())
    by_serial = {unit.serial: unit for unit in demo_units(facts["units"])}
    units = [
        HistoryUnit(by_serial[each.pop("serial")], **each) for each in facts["history"][number::of]
    ]
    feed(
        units,
        opened_at=datetime.fromtimestamp(facts["opened_us"] / 1e6, UTC),
        until=datetime.fromtimestamp(facts["until_us"] / 1e6, UTC),
        now=wiring.now(),
        on_day=lambda day: _tell(f"day {day}"),
    )


def _tell(line: str) -> None:
    """Say it to the demo that started us, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
