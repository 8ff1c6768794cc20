"""The plan fits the schema as it is, and a table that stops fitting is found."""

from __future__ import annotations

import psycopg
import pytest

from prewatt import walls
from prewatt.scale_plan import BY_ACCOUNT, BY_METER, REFERENCE, distribution, scale_plan
from prewatt.scale_sizes import KINDS, Assumptions, Sizes, sizes_of


def test_every_table_has_its_place_and_fits(database: str) -> None:
    with psycopg.connect(database) as session:
        plan = scale_plan(session.cursor(), shards=32)
    assert plan.misfits == ()
    assert {*plan.local, *distribution(), *REFERENCE} >= {*walls.APPEND_ONLY, *walls.MUTABLE}
    assert "SET citus.shard_count = 32" in plan.statements
    assert (
        "SELECT create_distributed_table('transfer', 'account_id', colocate_with => 'account_state')"
        in plan.statements
    )
    made = [each.split("'")[1] for each in plan.statements if "create_" in each]
    assert len(made) == len(set(made))
    assert not {*made} & {*plan.local}


@pytest.mark.parametrize(
    ("change", "misfit"),
    [
        (
            "CREATE UNIQUE INDEX one_event ON posting (event_id)",
            "posting: its unique index one_event does not hold account_id",
        ),
        (
            """ALTER TABLE account_state ADD CONSTRAINT of_account FOREIGN KEY (account_id)
               REFERENCES account (id)""",
            "account_state: its foreign key of_account leads to account",
        ),
        (
            """CREATE TRIGGER loud BEFORE UPDATE ON transfer FOR EACH ROW
               EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
            "transfer: it has the trigger loud",
        ),
        ("ALTER TABLE tariff_epoch RENAME TO era", "tariff_epoch: there is no such table"),
    ],
)
def test_what_would_not_fit_is_named(database: str, change: str, misfit: str) -> None:
    with psycopg.connect(database) as session:
        session.execute(change)
        assert scale_plan(session.cursor(), shards=32).misfits == (misfit,)
        session.rollback()


@pytest.mark.parametrize("shards", [0, -1, 64_001])
def test_a_number_of_shards_that_cannot_be_is_refused(database: str, shards: int) -> None:
    with psycopg.connect(database) as session, pytest.raises(ValueError, match="shards"):
        scale_plan(session.cursor(), shards=shards)


def test_sizes_are_counted_by_what_they_come_with(database: str) -> None:
    with psycopg.connect(database) as session:
        cursor = session.cursor()
        cursor.execute(
            "CREATE TABLE extra AS SELECT n, repeat('x', 100) AS t FROM generate_series(1, 1000) AS n"
        )
        cursor.execute("ANALYZE extra")
        sizes = sizes_of(cursor)
        session.rollback()
    extra = next(table for table in sizes.others if table.name == "extra")
    assert extra.rows == 1000 and extra.bytes > 100_000
    placed = {table.name for tables in sizes.tables.values() for table in tables}
    assert placed == {name for _, names, _ in KINDS for name in names}
    assert {*BY_ACCOUNT, *BY_METER} - placed <= {"archived_account"}


def test_ten_times_the_meters_need_ten_times_the_room() -> None:
    each = {"meter": 1_000.0, "reading": 500.0, "account's day": 200.0, "sale": 3_000.0}
    sizes = Sizes(tables={}, bytes_each=each, counted={})
    need = sizes.need(1_000_000, Assumptions(readings_a_day=96, keep_months=10, sales_a_month=2))
    assert need.state_bytes == 10**9
    assert need.readings_bytes == 96 * 10**6 * 300 * 500
    assert need.ledger_bytes_a_year == 10**6 * (365 * 200 + 24 * 3_000)
    assert need.wal_bytes_a_day == 96 * 10**6 * 1_300
    assert 0.03 < need.cores < 0.05  # 2,880 s for readings and 1,000 s for postings, of 86,400
    ten = sizes.need(10_000_000, Assumptions(readings_a_day=96, keep_months=10, sales_a_month=2))
    assert ten.readings_bytes == 10 * need.readings_bytes


@pytest.mark.parametrize("given", [{"readings_a_day": 0}, {"keep_months": 3}])
def test_what_no_estate_does_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not"):
        Assumptions(**given)
