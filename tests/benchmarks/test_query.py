"""The query bench: what it lays down is real, every page answers, and a slow one names its node."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection

from prewatt.benchmarks.city import City, fill
from prewatt.benchmarks.past import lay_down
from prewatt.benchmarks.query import _POSTED, _Bench, _own_times, _size, _worst_node
from prewatt.core.civil_time import utc_datetime
from prewatt.reports.books import check_books

CITY = City(150)


def test_every_page_answers_in_a_city_with_history(database: str) -> None:
    fill(database, CITY, tell=lambda _: None)
    lay_down(database, CITY, quarters=6, tell=lambda _: None)
    assert _size()[0] == 6 * CITY.accounts
    bench = _Bench(CITY, utc_datetime(CITY.at_us(6)) + timedelta(minutes=1), lambda _: None)
    bench.settle()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT account_id) FROM transfer WHERE kind = 3")
        assert cursor.fetchone()[0] == _POSTED
        assert [each for each in check_books(cursor) if "transfer" in each.lower()] == []
    pages = bench.pages()
    assert len({name for name, _, _ in pages}) == len(pages) == 15
    for name, _, ask in pages:
        assert bench.page(name, 2, ask).count == 2, name
    said = _worst_node({name: ask for name, _, ask in pages}["today"])
    assert " in SQL; " in said and said.endswith(" ms")


def test_the_time_of_a_node_is_what_those_below_it_have_not_used() -> None:
    below = {"Node Type": "Seq Scan", "Relation Name": "unit", "Actual Total Time": 2.0,
             "Actual Loops": 3}  # fmt: skip
    plan = {"Node Type": "Sort", "Actual Total Time": 10.0, "Actual Loops": 1, "Plans": [below]}
    assert list(_own_times(plan)) == [(4.0, "Sort"), (6.0, "Seq Scan unit")]
