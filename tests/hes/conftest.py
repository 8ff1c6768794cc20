"""What the tests of the head-end share."""

from __future__ import annotations

import pytest
from tests.conftest import role_dsn


@pytest.fixture
def head_end_login(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Other threads work under the head-end's own login; yields its DSN."""
    from django.db import connections

    from prewatt.settings import _database

    dsn = role_dsn(database, "head_end")
    changed = {**connections.settings["default"], **_database(dsn)}
    monkeypatch.setitem(connections.settings, "default", changed)
    return dsn
