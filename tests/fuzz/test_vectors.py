"""Every reader of foreign bytes meets its standard vectors and whatever fuzzing once found; `./run fuzz` looks for more."""

from __future__ import annotations

from prewatt.fuzz.targets import TARGETS, attempt
from prewatt.fuzz.vectors import vectors_of


def test_every_target_returns_from_its_vectors_and_from_all_that_is_cut_off_of_them() -> None:
    for name, target in TARGETS.items():
        vectors = vectors_of(name)
        assert vectors, f"{name} has no vectors"
        for _, data in vectors:
            assert len(data) <= target.bytes_max
            attempt(name, data)
            for end in range(1, len(data), max(1, len(data) // 8)):
                attempt(name, data[:end])
