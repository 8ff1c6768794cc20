"""Growing delays: free tries, doubling, an upper end, and forgetting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prewatt.core.throttle import ACCOUNT, DEVICE, NETWORK, PAIR, Bucket, Rule

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
