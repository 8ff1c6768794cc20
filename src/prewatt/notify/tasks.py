"""The worker's share of notify: whatever is due, until nothing is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from prewatt.access.scope import system_actor
from prewatt.notify.operations import deliver_due
from prewatt.notify.ports import Channel

#: Messages of one pass; a channel that was down is asked again in the next.
PASS_LIMIT: Final = 200


def deliver_pass(
    *,
    channels: Sequence[Channel],
    clock: Callable[[], datetime],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Deliver all that is due, or until `stopping`; returns how many messages were taken."""
    total = 0
    while not stopping():
        taken = deliver_due(
            actor=system_actor("notify"),
            channels=channels,
            now=clock(),
            limit=PASS_LIMIT,
            stopping=stopping,
        )
        total += taken
        if taken < PASS_LIMIT:
            break
    return total
