"""The plan fits the schema as it is, and a table that stops fitting is found."""

from __future__ import annotations

import psycopg
import pytest

from prewatt import walls
from prewatt.scale_plan import REFERENCE, distribution, scale_plan


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
