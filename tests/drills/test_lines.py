"""Lines of a drill lose nothing, and do what they are for."""

from __future__ import annotations

from collections import Counter
from random import Random

from prewatt.drills.lines import DuplicatingLine, Line, Sent, ShufflingLine


def sent_through(line: Line, turns: int = 200) -> tuple[list[Sent], list[Sent]]:
    """What was said, and what left."""
    said: list[Sent] = []
    left: list[Sent] = []
    for turn in range(turns):
        messages = [(f"meter-{at}", str(turn).encode()) for at in range(3)]
        said += messages
        left += line.leaving(messages)
    return said, left + line.flush()


def test_a_duplicating_line_says_everything_at_least_twice() -> None:
    said, left = sent_through(DuplicatingLine(Random(1)))
    assert min(Counter(left)[each] for each in said) >= 2


def test_what_a_duplicating_line_remembers_leaves_once_more_and_no_more() -> None:
    line = DuplicatingLine(Random(1))
    line.leaving([("meter-1", b"0")])
    assert line.flush() == [("meter-1", b"0")]
    assert line.flush() == []


def test_a_shuffling_line_says_everything_once_and_late_things_first() -> None:
    said, left = sent_through(ShufflingLine(Random(1)))
    assert Counter(left) == Counter(said)
    place = {each: at for at, each in enumerate(left)}
    turned = sum(1 for at, each in enumerate(said) if place[each] != at)
    assert turned > len(said) // 2
    assert max(place[each] - at for at, each in enumerate(said)) > 60


def test_a_line_is_the_same_for_the_same_seed() -> None:
    assert sent_through(ShufflingLine(Random(7))) == sent_through(ShufflingLine(Random(7)))
