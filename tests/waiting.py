"""To wait for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], what: str = "it", patience_s: float = 60) -> None:
    """Look again and again until ``holds`` says yes; a test fails if ``what`` it waits for never comes."""
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until, f"{what} never came"
        time.sleep(0.02)
