"""Steps over a change of tenant: an empty count, or the unit's, as the tariff says."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from tests.invariants.full_checks import LADDER
from tests.invariants.places import NOW, World, at, one, place, post, rows, send
from tests.moves.world import tenant

import prewatt.moves.operations as moves
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")


def ladder(policy: str, window: str = "month") -> dict[str, Any]:
    """The ladder of the full checks: steps at 10 and 25 kWh."""
    energy = LADDER["energy"]
    steps = energy["steps"] | {"on_tenant_change": policy, "window": window}
    return {**LADDER, "energy": {**energy, "steps": steps}}


def change(here: World, hours: float, register: int, key: str = "change") -> int:
    return moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=at(hours), now=NOW, key=key,
        tenant=tenant(), registers=here.register("M-101", register),
    ).account_id  # fmt: skip


def steps_of(account_id: int) -> list[tuple[int, int]]:
    return [
        (int(step), int(wh))
        for step, wh in rows(
            """SELECT step, sum(energy_wh) FROM interval WHERE account_id = %s AND energy_wh <> 0
               GROUP BY 1 ORDER BY 1""",
            account_id,
        )
    ]


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_count_that_carries_goes_on_where_the_former_tenant_left() -> None:
    here = place(document=ladder("carry"))
    send(here, [("M-101", at(20), 9_000)])
    new = change(here, 21, 9_500)
    # 8.5 kWh are used of the first 10.
    send(here, [("M-101", at(30), 12_500)])
    assert steps_of(new) == [(0, 1_500), (1, 1_500)]
    assert rows("SELECT step_wh FROM carried_steps WHERE account_id = %s", new) == [([8_500],)]
    post(here)
    books_hold(here)


def test_a_count_that_resets_begins_anew() -> None:
    here = place(document=ladder("reset"))
    send(here, [("M-101", at(20), 9_000)])
    new = change(here, 21, 9_500)
    send(here, [("M-101", at(30), 12_500)])
    assert steps_of(new) == [(0, 3_000)]
    assert one("SELECT count(*) FROM carried_steps") == 0
    books_hold(here)


def test_a_count_by_purchase_is_never_carried() -> None:
    here = place(document=ladder("carry", "purchase"))
    send(here, [("M-101", at(20), 9_000)])
    new = change(here, 21, 9_500)
    send(here, [("M-101", at(30), 12_500)])
    assert steps_of(new) == [(0, 3_000)]


def test_a_count_goes_through_a_vacancy_and_ends_with_its_window() -> None:
    here = place(document=ladder("carry"))
    send(here, [("M-101", at(20), 9_000)])
    moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=at(21), now=NOW, key="out",
        closing=here.register("M-101", 9_500),
    )  # fmt: skip
    new = moves.move_in(
        actor=here.administrator, unit_id=here.units["101"], at=at(25), now=NOW, key="in",
        tenant=tenant(), opening=here.register("M-101", 10_000),
    ).account_id  # fmt: skip
    send(here, [("M-101", at(30), 13_000)])
    assert steps_of(new) == [(0, 1_000), (1, 2_000)]
    books_hold(here)


def test_what_is_filled_in_counts_from_what_was_carried() -> None:
    here = place(document=ladder("carry"))
    send(here, [("M-101", at(20), 9_000)])
    new = change(here, 21, 9_500)
    send(here, [("M-101", at(30), 12_500)])
    send(here, [("M-101", at(25), 10_500)])
    assert steps_of(new) == [(0, 1_500), (1, 1_500)]
    books_hold(here)
