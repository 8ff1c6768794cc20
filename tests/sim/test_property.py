"""The demo's property comes in by the import, as everybody's does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection

from prewatt.sim.onboarding import EMERGENCY_MICRO, make_property

NOW = datetime(2026, 11, 17, 9, 12, tzinfo=UTC)


@pytest.mark.usefixtures("database")
def test_every_tenant_has_emergency_credit_and_no_owner_has() -> None:
    make_property(units=40, days=2, now=NOW, sign_ins=[])
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.kind, coalesce(s.emergency_micro, 0), count(*)
               FROM account a LEFT JOIN supply_state s ON s.account_id = a.id
               GROUP BY 1, 2 ORDER BY 1"""
        )
        granted = cursor.fetchall()
    assert [each[:2] for each in granted] == [("customer", EMERGENCY_MICRO), ("vacancy", 0)]
    assert granted[0][2] > 20
    assert EMERGENCY_MICRO == 5_000_000
