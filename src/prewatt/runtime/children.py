"""How a child process is started so that nothing is left behind when its parent dies.

Linux can tell the kernel to signal a child at its parent's death; elsewhere (macOS) a parent that
is killed outright leaves its children running, and only an orderly end takes them along.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int) -> Callable[[], None] | None:
    """Return a `preexec_fn` after which the kernel sends `signal_number` when the parent ends.

    Linux counts the *thread* that started the child as its parent: start children from the main
    thread. Popen changes the user before it calls this, as it must: a change of user clears it.
    Returns None where the kernel has no such thing.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:
            # The parent died between fork and prctl, so the signal will never come.
            os._exit(1)

    return set_death_signal
