"""What is read ahead at a process's start is what its first decision would have waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from tests.supply.world import CLERK, NOW, World

from prewatt.access.models import Duty
from prewatt.access.scope import PermissionRefused, scope
from prewatt.core import civil_time
from prewatt.estate import calendars
from prewatt.supply import queries
from prewatt.supply.rehearsal import rehearse


def test_after_a_rehearsal_the_first_decision_loads_nothing(database: str) -> None:
    world = World(1, window={"opens_min": 540, "closes_min": 900})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE property SET holiday_calendar = 'DE-HE'")
    caches: list[Any] = [queries._compiled, calendars.local_calendar, calendars.holiday_dates]
    caches.append(civil_time._offset_table)
    for cache in caches:
        cache.cache_clear()
    assert rehearse(actor=CLERK, now=NOW) == 1
    loaded = [cache.cache_info().misses for cache in caches]
    assert all(loaded)
    world.read(-1)
    with scope(CLERK):
        assert queries.rules([world.property_id], NOW + timedelta(days=1))
    assert [cache.cache_info().misses for cache in caches] == loaded


def test_a_database_that_is_away_stops_nobody(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(1)
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "NAME", "nowhere")
    assert rehearse(actor=CLERK, now=NOW) == 0
    connection.close()


def test_it_is_for_those_who_decide(database: str) -> None:
    operator = replace(CLERK, duty=Duty.OPERATOR)
    with pytest.raises(PermissionRefused):
        rehearse(actor=operator, now=NOW)
