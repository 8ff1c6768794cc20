"""The logins of processes, and the roles of people's duties that the web becomes."""

from __future__ import annotations

from typing import Final

LOGINS = ("web", "head_end", "clerk", "keeper", "witness")
#: Duties that see a property whole, and write by ``WRITES``.
STAFF = ("app_operator", "app_admin", "app_auditor")
#: Those that see of it what ``READS`` names.
NARROW = ("app_installer", "app_owner", "app_tenant")
DUTIES = (*STAFF, *NARROW)
BYPASS = frozenset({"head_end"})
#: So many connections the web's login has at most; PostgreSQL takes a hundred unless it is told otherwise.
WEB_CONNECTIONS: Final = 60
