"""Django's backend for PostgreSQL, but what a request leaves is given to the next one.

Each request runs in a thread of its own, and Django keeps connections by thread: every request signed
in anew, which costs it and the server some milliseconds of processor, and every statement was planned
anew. Here a connection that a request leaves in order waits for another, with its prepared statements.
Nothing of a request stays on it: role and properties are set for a transaction (`access.scope`), and what
was set for longer is reset.

Not kept is what failed or is in a transaction or a block that may begin one, what has been there for long, and what is one too many.
Not given is what the server closed meanwhile.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

#: As many requests at once find a connection; more of them open their own.
KEPT_MAX: Final = 16
#: A connection is not used for longer, so that what the server gathers for it has an end.
AGE_MAX_S: Final = 600.0
#: The login and its settings again, whatever a request made of them; prepared statements stay.
_AS_NEW: Final = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL"


class _Kept:
    """Connections that wait, the one used last on top; for all threads of the process."""

    def __init__(self) -> None:
        self._waiting: deque[psycopg.Connection[Any]] = deque()
        self._until: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()

    def put(self, connection: psycopg.Connection[Any]) -> bool:
        """Keep the connection unless it is not in order, too old or one too many."""
        until = self._until.setdefault(connection, time.monotonic() + AGE_MAX_S)
        is_idle = connection.info.transaction_status is TransactionStatus.IDLE
        in_order = is_idle and connection.autocommit
        if not in_order or time.monotonic() > until or len(self._waiting) >= KEPT_MAX:
            return False
        try:
            connection.execute(_AS_NEW, prepare=False)
        except psycopg.Error:
            return False
        self._waiting.append(connection)
        return True

    def take(self) -> psycopg.Connection[Any] | None:
        """One that is alive, or None. Others are closed."""
        with contextlib.suppress(IndexError):
            while True:
                connection = self._waiting.pop()
                if _is_quiet(connection):
                    return connection
                connection.close()
        return None


def _is_quiet(connection: psycopg.Connection[Any]) -> bool:
    """Nothing has come unasked: what does is the server's good-bye, or what nobody would read."""
    try:
        return not select.select([connection.fileno()], [], [], 0)[0]
    except (OSError, ValueError, psycopg.Error):
        return False


KEPT: Final = _Kept()


class DatabaseWrapper(base.DatabaseWrapper):
    """Named by ``ENGINE``; all connections of a process are of one database and one login."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Take one that waits, or open one."""
        kept = KEPT.take()
        if kept is None:
            return super().get_new_connection(conn_params)
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return kept

    def _close(self) -> None:
        # A block that is open goes on with its connection, also where it has sent nothing yet.
        may_wait = self.connection is not None and not (
            self.errors_occurred or self.in_atomic_block
        )
        if not may_wait or not KEPT.put(self.connection):
            super()._close()  # type: ignore[misc]  # the stubs do not know it
