"""Sells credit during a scenario, in a process of its own under the web's login: `python -m prewatt.scenarios.teller PLAN`.

Accounts in turn, at the rate of the plan. Each wish is in the journal before it is asked, and asked again until it is
answered; so the account at the end knows which recharges were promised to somebody.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from prewatt import wiring
from prewatt.drills.teller import Journal, _plain
from prewatt.runtime.readiness import say_ready

_RETRY_S: Final = 0.2
#: A till that was held up sells this much of what it missed at once, and lets the rest go.
_BEHIND_S_MAX: Final = 5.0


class TellerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to sell to, in turn, how much (micro-units), how many a second; the journal's path."""

    property_id: int
    accounts: tuple[int, ...]
    amount_micro: int
    per_second: float
    journal: str


def main() -> None:
    """Sell until told to stop."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TellerPlan)
    wiring.start_django("teller")
    from prewatt.access.models import Duty
    from prewatt.access.scope import Actor
    from prewatt.vending.desk import Desk

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    actor = Actor("scenario:teller", Duty.OPERATOR, (plan.property_id,))
    journal = Journal.read(Path(plan.journal))
    desk = Desk()
    desk.start()
    say_ready()
    try:
        due_s = time.monotonic()
        while not stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + 1 / plan.per_second, time.monotonic() - _BEHIND_S_MAX)
            _sell(desk, actor, journal, plan)
    finally:
        desk.stop()


def _sell(desk: object, actor: object, journal: Journal, plan: TellerPlan) -> None:
    from prewatt.vending.operations import Recharge

    number = len(journal.asked)
    account_id = plan.accounts[number % len(plan.accounts)]
    wish = Recharge(
        f"scenario-{number}",
        account_id,
        plan.amount_micro,
        "cash",
        f"scenario-{number}",
        wiring.now(),
    )
    journal.ask({"key": wish.key, "account_id": account_id, "amount": plan.amount_micro})
    while True:
        answer = desk.recharge(actor=actor, wish=wish, now=wiring.now())  # type: ignore[attr-defined]
        if getattr(answer, "code", "") != "vending.recharge.busy":
            journal.answer(_plain(answer))
            return
        time.sleep(_RETRY_S)


if __name__ == "__main__":
    main()
