"""What a page costs does not grow with the property: statements, rows and bytes at two sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from tests.web.test_pages import PAGES, address

from crowd import add_crowd
from fernmoor import Fernmoor
from prewatt.reports import board

AsOwner = Callable[[Fernmoor], AbstractContextManager[None]]
#: Both properties are larger than a page of a list and than what the board shows at once.
_SMALLER, _FURTHER = 150, 450
#: A page says of larger numbers a few digits more.
_BYTES_MORE = 1.03


@dataclass
class Cost:
    """What was asked of the database, and what came back."""

    statements: int = 0
    rows: int = 0
    bytes: int = 0
    longest: str = ""


@contextmanager
def counted() -> Iterator[Cost]:
    """Count the statements of a page and the rows that they gave."""
    cost = Cost()

    def count(execute: Any, query: str, given: Any, many: bool, context: Any) -> Any:
        answer = execute(query, given, many, context)
        cost.statements += 1
        cost.rows += max(0, context["cursor"].rowcount)
        if context["cursor"].rowcount > 100:
            cost.longest = query
        return answer

    with connection.execute_wrapper(count):
        yield cost


def costs(place: Fernmoor, client: Any, pages: tuple[str, ...]) -> dict[str, Cost]:
    """The cost of each page, asked once before, so that what is kept is there."""
    found = {}
    for page in pages:
        where = address(place, page)
        client.get(where)
        with counted() as cost:
            response = client.get(where)
        assert response.status_code == 200, page
        cost.bytes = len(response.content)
        found[page] = cost
    return found


def test_no_page_costs_more_where_there_are_more_units(
    fernmoor: Fernmoor,
    sign_in: Callable[..., Any],
    as_owner: AsOwner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "WINDOWS_MAX", 100)
    with as_owner(fernmoor):
        add_crowd(fernmoor, _SMALLER)
    client = sign_in(fernmoor)
    pages = (
        *PAGES,
        "/accounts?sort=balance",
        "/accounts?q=house",
        "/units?kind=flat",
        "/meters?q=c",
        "/accounts/former",
        "/customers/pick/who?who_q=e",
    )
    fewer = costs(fernmoor, client, pages)
    with as_owner(fernmoor):
        add_crowd(fernmoor, _FURTHER, after=_SMALLER - 1)
    more = costs(fernmoor, client, pages)
    # Where buildings are counted there is a row for each of them, for its kinds, states and floors.
    counted_there = {"/": 100, "/property": 10, "/property/import": 10}
    worse = {
        page: (small, large)
        for page, small, large in ((page, fewer[page], more[page]) for page in pages)
        if large.statements > small.statements
        or large.rows > small.rows + counted_there.get(page, 0)
        or large.bytes > small.bytes * _BYTES_MORE + 1_000 * counted_there.get(page, 0)
    }
    assert not worse


def test_the_test_would_see_a_page_that_reads_every_unit(
    fernmoor: Fernmoor, as_owner: AsOwner
) -> None:
    with as_owner(fernmoor):
        with counted() as few, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM unit")
        add_crowd(fernmoor, 50)
        with counted() as many, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM unit")
    assert (few.statements, many.statements) == (1, 1)
    assert many.rows == few.rows + 50
