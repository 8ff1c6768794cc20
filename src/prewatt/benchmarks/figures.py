"""Latencies as figures: how many, and the percentiles that a promise is made about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles of a set of waits, in milliseconds, by the nearest rank: each one was measured.

    ``first`` is the one that happened first, when caches and connections were cold.
    """

    count: int
    first: float
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, waits: Sequence[timedelta]) -> Latencies:
        """The figures of waits in the order in which they happened. Raises ValueError for none."""
        if not waits:
            raise ValueError("nothing was measured")
        in_ms = [round(wait / timedelta(milliseconds=1), 1) for wait in waits]
        ranked = sorted(in_ms)

        def rank(share: int) -> float:
            return ranked[max(-(-len(ranked) * share // 100), 1) - 1]

        return cls(len(in_ms), in_ms[0], rank(50), rank(95), rank(99), ranked[-1])
