"""The database's own walls: roles, grants and row-level security, applied after every migration.

Each process signs in with a login of its own (`roles`); what a login may touch is written table by table (`tables`,
`rights`, `scopes`), and a table that is not written down makes :func:`apply` (`raising`) fail. Nobody but the owner may ever
UPDATE or DELETE an append-only table. No role has a grant on a partition itself, which would
bypass the parent's policy.

Roles: ``web`` signs in and becomes the role of ``DUTIES`` that the person's duty names;
``head_end`` writes the data plane (BYPASSRLS, because PostgreSQL refuses COPY into a table with
row-level security); ``clerk`` posts, decides, notifies and closes what ends by itself; ``keeper`` makes partitions and archives months; ``witness``
reads the ledger. `pens` sign in nowhere: each owns functions that alone write what must stay together
(transfers and posted money, the brake), and sees what the caller of the function sees.
"""

from __future__ import annotations

from prewatt.walls.pens import PENS, Pen
from prewatt.walls.raising import (
    Cursor,
    WallMissing,
    apply,
    bound_web,
    let_clock_run_ahead,
    note_changes,
    noting_guards,
    own_commands,
)
from prewatt.walls.rights import (
    ACCRUING,
    ADDS_NOTHING,
    BORN_WITH,
    CHANGES,
    COLUMNS,
    READS,
    WRITES,
)
from prewatt.walls.roles import BYPASS, DUTIES, LOGINS, NARROW, STAFF, WEB_CONNECTIONS
from prewatt.walls.tables import APPEND_ONLY, MUTABLE, NOTED, SIGN_IN, UNNOTED, UNUSED

__all__ = [
    "ACCRUING",
    "ADDS_NOTHING",
    "APPEND_ONLY",
    "BORN_WITH",
    "BYPASS",
    "CHANGES",
    "COLUMNS",
    "DUTIES",
    "LOGINS",
    "MUTABLE",
    "NARROW",
    "NOTED",
    "PENS",
    "READS",
    "SIGN_IN",
    "STAFF",
    "UNNOTED",
    "UNUSED",
    "WEB_CONNECTIONS",
    "WRITES",
    "Cursor",
    "Pen",
    "WallMissing",
    "apply",
    "bound_web",
    "let_clock_run_ahead",
    "note_changes",
    "noting_guards",
    "own_commands",
]
