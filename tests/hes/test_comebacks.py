"""How often a meter that says it is back has its orders woken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prewatt.hes.comebacks import FIRST_WAIT, LONGEST_WAIT, METERS_MAX, Comebacks

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def woken(comebacks: Comebacks, now: datetime) -> list[int]:
    due = comebacks.due(now)
    comebacks.woken(due, now)
    return due


def test_the_first_return_counts_at_once_and_a_flood_ever_more_seldom() -> None:
    comebacks, times = Comebacks(), []
    for second in range(6 * 3600):
        now = NOW + second * SECOND
        comebacks.note([7], now)
        if woken(comebacks, now):
            times.append(second)
    assert times[:5] == [0, 2, 6, 14, 30]
    assert times[-1] - times[-2] == LONGEST_WAIT.total_seconds()
    assert len(times) < 40


def test_a_return_that_has_to_wait_is_due_once_when_its_wait_is_over() -> None:
    comebacks = Comebacks()
    comebacks.note([7], NOW)
    assert woken(comebacks, NOW) == [7]
    for tenth in range(1, 6):
        comebacks.note([7], NOW + tenth * SECOND / 10)
    assert woken(comebacks, NOW + SECOND) == []
    assert woken(comebacks, NOW + FIRST_WAIT) == [7], (
        "nobody said so again, and it was not forgotten"
    )
    assert woken(comebacks, NOW + 100 * SECOND) == []


def test_whoever_was_quiet_for_long_is_back_at_once() -> None:
    comebacks, now = Comebacks(), NOW
    for _ in range(3):
        comebacks.note([7], now)
        assert woken(comebacks, now) == [7]
        now += timedelta(hours=1)


def test_what_was_not_committed_stays_due_and_others_do_not_wait_for_it() -> None:
    comebacks = Comebacks()
    comebacks.note([9, 7], NOW)
    assert comebacks.due(NOW) == [7, 9] == comebacks.due(NOW + SECOND)
    comebacks.woken([9], NOW + SECOND)
    assert comebacks.due(NOW + SECOND) == [7]


def test_memory_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    comebacks = Comebacks()
    comebacks.woken(range(METERS_MAX + 10), NOW)
    comebacks.note([3, METERS_MAX], NOW)
    assert comebacks.due(NOW) == [3], "of the others it is known that they have been woken"
