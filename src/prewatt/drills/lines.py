"""How the messages of a drill's meters leave: as they come, some of them again, or in any order.

Time is counted in turns of the field, so that a line is the same for the same seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

Sent = tuple[str, bytes]
"""A topic and its payload."""

_KEPT_MAX: Final = 5_000


class Line(Protocol):
    """What lies between a meter and the broker."""

    def leaving(self, messages: Sequence[Sent]) -> list[Sent]:
        """What leaves in this turn, `messages` being what the meters said in it."""

    def flush(self) -> list[Sent]:
        """What is still on its way when the load ends."""

    def counts(self) -> dict[str, int]:
        """What it did to how many messages, for the report."""


class PlainLine:
    """Everything leaves as it comes."""

    def leaving(self, messages: Sequence[Sent]) -> list[Sent]:
        """The same."""
        return list(messages)

    def flush(self) -> list[Sent]:
        """Nothing is ever on its way."""
        return []

    def counts(self) -> dict[str, int]:
        """Nothing."""
        return {}


class DuplicatingLine:
    """Every message leaves again: at once, a little later, and any time after that."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kept: list[Sent] = []
        self.repeated = 0

    def leaving(self, messages: Sequence[Sent]) -> list[Sent]:
        """The messages, some of them twice, and as many of any time before."""
        again = [each for each in messages if self._random.random() < 0.5]
        again += self._random.sample(self._kept, min(len(messages), len(self._kept)))
        for message in messages:
            if len(self._kept) < _KEPT_MAX:
                self._kept.append(message)
            else:
                # What is old stays likely: a repeat from days ago is the hardest one.
                self._kept[self._random.randrange(_KEPT_MAX)] = message
        self.repeated += len(again)
        leaving = [*messages, *again]
        self._random.shuffle(leaving)
        return leaving

    def flush(self) -> list[Sent]:
        """Everything that is remembered, once more, and then it is forgotten.

        Said every time, it would be a flood that a busy machine never sees the end of.
        """
        kept, self._kept = self._kept, []
        self.repeated += len(kept)
        return kept

    def counts(self) -> dict[str, int]:
        """How many messages left once more."""
        return {"messages sent again": self.repeated}


class ShufflingLine:
    """Messages wait for as long as they please and leave in any order; many later ones go first."""

    def __init__(self, random: Random, *, turns_max: int = 40) -> None:
        self._random = random
        self._turns_max = turns_max
        self._turn = 0
        self._number = 0
        self._waiting: list[tuple[int, float, int, Sent]] = []
        self._latest: dict[str, int] = {}
        self.overtaken = 0

    def leaving(self, messages: Sequence[Sent]) -> list[Sent]:
        """What has waited long enough, shuffled."""
        self._turn += 1
        for message in messages:
            # Most wait a little and some very long: across batches, rounds and restarts.
            most = self._turns_max if self._random.random() < 0.2 else 4
            due = self._turn + self._random.randrange(most)
            self._number += 1
            heapq.heappush(self._waiting, (due, self._random.random(), self._number, message))
        leaving = []
        while self._waiting and self._waiting[0][0] <= self._turn:
            leaving.append(heapq.heappop(self._waiting)[2:])
        return self._shuffled(leaving)

    def flush(self) -> list[Sent]:
        """Everything that waits, shuffled."""
        leaving = [each[2:] for each in self._waiting]
        self._waiting = []
        return self._shuffled(leaving)

    def counts(self) -> dict[str, int]:
        """How many messages left after a later one of the same meter."""
        return {"messages overtaken": self.overtaken}

    def _shuffled(self, leaving: list[tuple[int, Sent]]) -> list[Sent]:
        self._random.shuffle(leaving)
        for number, (topic, _) in leaving:
            self.overtaken += number < self._latest.get(topic, 0)
            self._latest[topic] = max(number, self._latest.get(topic, 0))
        return [each for _, each in leaving]
