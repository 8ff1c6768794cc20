"""How a process tells whoever started it that it does its work now: a newline on an inherited pipe.

"Started" and "ready" are a second apart, and what needs the other's service waits for the second.
The pipe's number is in the environment; without one nobody asked and nothing is said.
"""

from __future__ import annotations

import contextlib
import os

READY_VARIABLE = "PREWATT_READY_FD"
"""Names the inherited file descriptor that the newline is written to."""


def say_ready() -> None:
    """Say that this process is ready; only the first call says anything. Never fails."""
    number = os.environ.pop(READY_VARIABLE, "")
    if not number.isdecimal():
        return
    # The supervisor may have gone, or the number may be nobody's: no reason to stop working.
    with contextlib.suppress(OSError):
        os.write(int(number), b"\n")
        os.close(int(number))
