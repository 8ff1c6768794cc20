"""Growing delays: free tries, doubling, an upper end, and forgetting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prewatt.core.throttle import ACCOUNT, DEVICE, FACTOR, NETWORK, PAIR, Bucket, Rule

NOW = datetime(2026, 11, 17, 9, tzinfo=UTC)


@pytest.mark.parametrize("rule", [PAIR, NETWORK, ACCOUNT, DEVICE])
def test_a_delay_grows_from_nothing_and_has_an_end(rule: Rule) -> None:
    delays = [rule.delay(tries).total_seconds() for tries in range(10_000)]
    assert delays[: rule.free] == [0] * rule.free
    assert delays[rule.free : rule.free + 3] == [rule.first_s, rule.first_s * 2, rule.first_s * 4]
    assert delays == sorted(delays) and delays[-1] == rule.most_s


def test_a_bucket_forgets_after_a_quiet_time() -> None:
    bucket = Bucket(0, NOW, NOW)
    for _ in range(PAIR.free + 2):
        bucket = bucket.counted(PAIR, NOW)
    assert (bucket.tries, bucket.wait_until) == (7, NOW + timedelta(seconds=8))
    later = NOW + timedelta(seconds=PAIR.forget_s)
    assert bucket.counted(PAIR, later - timedelta(seconds=1)).tries == 8
    assert bucket.counted(PAIR, later) == Bucket(1, later, later)


@pytest.mark.parametrize("rule", [PAIR, NETWORK, ACCOUNT, DEVICE, FACTOR])
def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_the_most(rule: Rule) -> None:
    bucket = Bucket(0, NOW, NOW)
    for _ in range(rule.free + 40):
        bucket = bucket.counted(rule, NOW)
    most = timedelta(seconds=rule.most_s)
    assert bucket.left(rule, NOW) == most
    for back in (timedelta(seconds=1), most, 2 * most, timedelta(days=400)):
        left = bucket.left(rule, NOW - back)
        assert left <= 2 * most, back
        # Processes whose clocks differ a little do not let anybody guess at once.
        assert left > timedelta(0) or back > timedelta(seconds=1)
    assert bucket.left(rule, NOW + most) == timedelta(0)
