"""The worker's share of notify: one pass over whatever is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from prewatt.access.scope import system_actor
from prewatt.notify.operations import deliver_due
from prewatt.notify.ports import Channel

#: Messages of one pass; the worker looks after supply between two passes.
PASS_LIMIT: Final = 200


def deliver_pass(*, channels: Sequence[Channel], now: datetime) -> bool:
    """Deliver what is due; True when more may be waiting and the next pass should not wait."""
    taken = deliver_due(actor=system_actor("notify"), channels=channels, now=now, limit=PASS_LIMIT)
    return taken >= PASS_LIMIT
