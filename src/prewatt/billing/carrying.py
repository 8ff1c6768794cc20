"""A unit changes hands and its tariff says that the step count stays with the unit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db import connection

from prewatt.billing.queries import tariffs, version_chains
from prewatt.core.civil_time import instant_us
from prewatt.core.tariff.model import OnTenantChange, Steps, Window


def carry_steps(
    *,
    from_account_id: int,
    to_account_id: int,
    at: datetime,
    count: Callable[[], tuple[int, list[int]]] | None = None,
) -> bool:
    """Let an account go on with the step count of the one that paid before it; says whether it does.

    Only if both are priced at ``at`` by one tariff version that carries counts over a change of
    tenant; a count that begins anew with each purchase never is carried. The count comes with its
    window, so that it ends when the window does. The caller holds both accounts' locks, and has
    charged the former one up to ``at``; where it had been charged beyond, ``count`` works
    out its (window, counts) at the instant.
    """
    steps = _common_steps(from_account_id, to_account_id, at)
    if steps is None or steps.on_tenant_change is not OnTenantChange.CARRY:
        return False
    if steps.window is Window.PURCHASE:
        return False
    window, counts = count() if count else (None, None)
    with connection.cursor() as cursor:
        cursor.execute(_CARRY, [window, counts, to_account_id, from_account_id, at])
        return bool(cursor.rowcount)


#: What is carried is kept besides, because a window that is counted anew has to begin with it.
_CARRY = """
WITH counted AS (
    SELECT s.account_id, s.property_id, coalesce(c.step_window, s.step_window) AS step_window,
           coalesce(c.step_wh, s.step_wh) AS step_wh
    FROM account_state s CROSS JOIN (VALUES (%s::bigint, %s::bigint[])) AS c(step_window, step_wh)
), former AS (
    SELECT t.account_id, f.account_id AS from_account_id, f.property_id, f.step_window, f.step_wh
    FROM counted f JOIN account_state t ON t.account_id = %s
    WHERE f.account_id = %s AND f.step_window <> 0 AND f.step_wh <> '{}'
), going_on AS (
    UPDATE account_state s SET step_window = f.step_window, step_wh = f.step_wh
    FROM former f WHERE s.account_id = f.account_id
    RETURNING s.account_id
)
INSERT INTO carried_steps (property_id, account_id, from_account_id, at, step_window, step_wh)
SELECT f.property_id, f.account_id, f.from_account_id, %s, f.step_window, f.step_wh
FROM former f JOIN going_on USING (account_id)
"""


def _common_steps(from_account_id: int, to_account_id: int, at: datetime) -> Steps | None:
    chains = version_chains([from_account_id, to_account_id])
    in_force = {
        max((each for each in chain.versions if each[0] <= instant_us(at)), default=(0, 0))[1]
        for chain in chains.values()
    }
    if len(chains) != 2 or len(in_force) != 1:
        return None
    (version_id,) = in_force
    found = tariffs([version_id]).get(version_id)
    return found.steps if found is not None else None
