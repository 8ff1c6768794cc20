"""A power limit in the meter: what a meter is to open its relay at, and for how long."""

from __future__ import annotations

from datetime import datetime

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.instructions import LIMIT_W_MAX, NOTHING, STEP_S_MAX
from prewatt.instructions.queries import has_key
from prewatt.runtime.prepared import execute, fetch


class LimitRefused(Exception):
    """Nothing is told. ``reason`` is `figures`, `no_key` or `protected`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no limit: {_WHY[reason]}")
        self.reason = reason


_WHY = {
    "figures": f"up to {LIMIT_W_MAX:,} W for 1 to {STEP_S_MAX:,} s, or 0 W for 0 s",
    "no_key": "the meter has no key, so nothing can be signed to it that it would believe",
    "protected": "its supply is protected, and a meter knows of no protection",
}


def set_limit(
    *, actor: Actor, property_id: int, meter_id: int, watts: int, open_s: int, now: datetime
) -> None:
    """Have a meter open its relay for ``open_s`` where more than ``watts`` are drawn over a minute; 0 and 0 for none.

    The head-end tells it until its signed answer says that it is so. Raises LimitRefused, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    is_none = watts == open_s == 0
    if not (is_none or (0 < watts <= LIMIT_W_MAX and 0 < open_s <= STEP_S_MAX)):
        raise LimitRefused("figures")
    with scope(actor):
        if not has_key([meter_id], now=now):
            raise LimitRefused("no_key")
        if not is_none and fetch(_PROTECTED, [meter_id, now]):
            raise LimitRefused("protected")
        execute(
            """INSERT INTO instruction_state (meter_id, property_id, known_hash) VALUES (%s, %s, %b)
               ON CONFLICT (meter_id) DO NOTHING""",
            [meter_id, property_id, NOTHING],
        )
        execute(
            """UPDATE instruction_state SET next_limit_w = %s, next_limit_s = %s
               WHERE meter_id = %s AND property_id = %s""",
            [watts, open_s, meter_id, property_id],
        )
        audit.record(
            actor=actor.code, code="instructions.limit.wished", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, watts=watts, open_s=open_s,
        )  # fmt: skip


_PROTECTED = """
SELECT FROM meter_assignment a JOIN supply_state v ON v.account_id = a.account_id
WHERE a.meter_id = %s AND a.period @> %s::timestamptz AND v.protection <> ''
"""
