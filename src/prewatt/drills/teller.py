"""A teller of a drill, in a process of its own: sells credit and writes down what it was answered.

Each wish is in the journal, on the disk, before it is asked; each answer is before the next wish. A key
without an answer is asked again after any crash, as a till or a payment provider would. Wishes follow from
seed and number alone, so a teller that is started again goes on where its journal ends.

Some sets are one call of the operation, as a payment provider's list is. The others go to this process's
`Desk`, each wish by a caller of its own and one of them by two at once, as the pages' do.

`python -m prewatt.drills.teller JOURNAL SEED PROPERTY ACCOUNT…` sells until it is told to stop; accounts that are
also named with `--poor` get so little at a time that they run out again. With
`--then finish` it only asks what was never answered, with `--then repeat` everything once more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from prewatt import wiring
from prewatt.runtime.readiness import say_ready

if TYPE_CHECKING:
    from prewatt.vending.desk import Desk
    from prewatt.vending.operations import Answer, Recharge

log = logging.getLogger(__name__)

_PACE_S: Final = 0.3
_RETRY_S: Final = 0.2
_AT_ONCE_MAX: Final = 3
_REPEATED_AT_ONCE: Final = 100
#: One in so many wishes is one that was answered before.
_OLD_ONE_IN: Final = 10
#: What the desk says when there was no room, or somebody else kept the account: nothing was taken.
_BUSY: Final = "vending.recharge.busy"


@dataclass(slots=True)
class Journal:
    """Wishes by key in the order asked, and answers by key. Every line is on the disk when it counts."""

    path: Path
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Journal:
        """The journal as it is on the disk; a line that was cut off counts for nothing."""
        journal = cls(path)
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                journal._take(json.loads(line))
        return journal

    def ask(self, wish: dict[str, Any]) -> None:
        """Write a wish down before it is asked."""
        self._write({"ask": wish})

    def answer(self, answer: dict[str, Any]) -> None:
        """Write an answer down; another one than before is a contradiction."""
        self._write({"answer": answer})

    def open_keys(self) -> list[str]:
        """Keys that were asked and not answered."""
        return [key for key in self.asked if key not in self.answered]

    def _write(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # The line before may be cut off: it stays one of its own.
            os.write(descriptor, b"\n" * self._is_cut_off() + json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._take(line)

    def _is_cut_off(self) -> bool:
        with self.path.open("rb") as journal:
            if journal.seek(0, os.SEEK_END) == 0:
                return False
            journal.seek(-1, os.SEEK_END)
            return journal.read(1) != b"\n"

    def _take(self, line: dict[str, Any]) -> None:
        if "ask" in line:
            self.asked[line["ask"]["key"]] = line["ask"]
            return
        answer = {name: value for name, value in line["answer"].items() if name != "repeated"}
        before = self.answered.setdefault(answer["key"], answer)
        if before != answer:
            self.contradictions.append(f"key {answer['key']}: first {before}, then {answer}")


class Teller:
    """Sells at one property, one set of recharges after the other."""

    def __init__(
        self,
        journal: Journal,
        *,
        seed: str,
        property_id: int,
        accounts: Sequence[int],
        poor: Sequence[int],
    ) -> None:
        from prewatt.access.models import Duty
        from prewatt.access.scope import Actor

        self._journal = journal
        self._seed = seed
        self._accounts = accounts
        self._poor = frozenset(poor)
        self._actor = Actor(f"drill:{journal.path.stem}", Duty.OPERATOR, (property_id,))
        self._desk: Desk | None = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End after the present wish."""
        self._stopping.set()

    def sell(self) -> None:
        """Finish what was begun, then sell until `stop`."""
        self.finish()
        with self._open_desk():
            while not self._stopping.is_set():
                self._ask(self._next())
                say_ready()
                self._stopping.wait(_PACE_S)

    def finish(self) -> None:
        """Ask what was asked and never answered."""
        for key in self._journal.open_keys():
            self._ask([self._journal.asked[key]])

    def repeat(self) -> None:
        """Ask everything once more; the journal finds what is answered otherwise."""
        wishes = list(self._journal.asked.values())
        for at in range(0, len(wishes), _REPEATED_AT_ONCE):
            self._ask(wishes[at : at + _REPEATED_AT_ONCE])

    def _next(self) -> list[dict[str, Any]]:
        """The next wishes, a few in one set; now and then one of them is an old one."""
        number = len(self._journal.asked)
        random = Random(f"{self._seed}-{number}")  # noqa: S311 - a drill is repeatable
        wishes = []
        for at in range(number, number + random.randint(1, _AT_ONCE_MAX)):
            account = random.choice(self._accounts)
            unit = 1_000 if account in self._poor else 10_000
            wish = {
                "key": f"{self._journal.path.stem}-{at}",
                "account_id": account,
                "amount": random.randint(1, 8) * unit,
                "way": random.choice(("cash", "online", "transfer")),
                "paid_at": wiring.now().isoformat(),
            }
            self._journal.ask(wish)
            wishes.append(wish)
        if self._journal.answered and random.randrange(_OLD_ONE_IN) == 0:
            wishes.append(self._journal.asked[random.choice(list(self._journal.answered))])
        return wishes

    @contextlib.contextmanager
    def _open_desk(self) -> Iterator[None]:
        from prewatt.vending.desk import Desk

        self._desk = Desk()
        self._desk.start()
        try:
            yield
        finally:
            self._desk.stop()
            self._desk = None

    def _ask(self, wishes: Sequence[dict[str, Any]]) -> None:
        """Ask until there is an answer to each: without one nobody knows what was done."""
        is_for_desk = self._desk is not None and len(self._journal.asked) % 2 == 0
        ask = self._ask_desk if is_for_desk else self._ask_together
        open_wishes = list(wishes)
        while open_wishes and not self._stopping.is_set():
            answered = set()
            for answer in ask(open_wishes):
                self._journal.answer(_plain(answer))
                answered.add(answer.key)
            open_wishes = [wish for wish in open_wishes if wish["key"] not in answered]
            if open_wishes:
                time.sleep(_RETRY_S)

    def _ask_together(self, wishes: Sequence[dict[str, Any]]) -> Sequence[Answer]:
        """All of them in one set; nothing where nobody knows what became of it."""
        from django.db import connection

        from prewatt.vending.operations import recharge

        try:
            return recharge(
                actor=self._actor,
                recharges=[_recharge(wish) for wish in wishes],
                now=wiring.now(),
            )
        except Exception:
            log.warning("no answer; asking again", exc_info=True)
            connection.close()
            return []

    def _ask_desk(self, wishes: Sequence[dict[str, Any]]) -> list[Answer]:
        """Each by a caller of its own, and the first by two of them; those answers that came."""
        callers = [wishes[0], *wishes]
        with ThreadPoolExecutor(len(callers)) as pool:
            answers = list(pool.map(self._ask_alone, callers))
        return [each for each in answers if each is not None]

    def _ask_alone(self, wish: dict[str, Any]) -> Answer | None:
        """One caller's answer; None where there is none, or the desk says to ask again."""
        assert self._desk is not None
        try:
            answer = self._desk.recharge(actor=self._actor, wish=_recharge(wish), now=wiring.now())
        except Exception:
            log.warning("the desk has no answer; asking again", exc_info=True)
            return None
        return None if getattr(answer, "code", "") == _BUSY else answer


def _recharge(wish: dict[str, Any]) -> Recharge:
    from prewatt.vending.operations import Recharge

    return Recharge(
        key=wish["key"],
        account_id=wish["account_id"],
        amount=wish["amount"],
        way=wish["way"],
        reference=wish["key"],
        paid_at=datetime.fromisoformat(wish["paid_at"]),
    )


def _plain(answer: Answer) -> dict[str, Any]:
    return asdict(answer)


def main() -> None:
    """Sell, or repeat."""
    parser = argparse.ArgumentParser()
    parser.add_argument("journal", type=Path)
    parser.add_argument("seed")
    parser.add_argument("property_id", type=int)
    parser.add_argument("accounts", type=int, nargs="+")
    parser.add_argument("--poor", type=int, action="append", default=[])
    parser.add_argument("--then", choices=("sell", "finish", "repeat"), default="sell")
    given = parser.parse_args()
    wiring.start_django("teller")
    teller = Teller(
        Journal.read(given.journal),
        seed=given.seed,
        property_id=given.property_id,
        accounts=given.accounts,
        poor=given.poor,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: teller.stop())
    {"sell": teller.sell, "finish": teller.finish, "repeat": teller.repeat}[given.then]()


if __name__ == "__main__":
    main()
