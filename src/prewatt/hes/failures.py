"""What a failure of the database means to who stores messages: that it is away, or that it refuses.

COPY and binary parameters go by the driver itself, whose errors Django does not wrap.
"""

from __future__ import annotations

from typing import Final

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError

AWAY: Final = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""To be asked for before `REFUSED`, of which some of these are a part: all is tried again later."""

REFUSED: Final = (
    DatabaseError,
    psycopg.DatabaseError,
    ValueError,
    ArithmeticError,
    AssertionError,
)
"""What was given cannot be stored as it is: it is taken apart, and what remains is recorded."""
