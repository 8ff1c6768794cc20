"""The recharge bench: what it sells is stored, and PostgreSQL alone writes the very same rows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import signed_in

from prewatt.benchmarks.city import City, fill
from prewatt.benchmarks.recharge_desk import BARE, _Seller
from prewatt.reports.books import check_books

CITY = City(150)
_COUNTS = """
SELECT (SELECT count(*) FROM transfer), (SELECT count(*) FROM payment),
       (SELECT count(*) FROM document), (SELECT count(*) FROM idempotency),
       (SELECT count(*) FROM audit_event), (SELECT count(*) FROM message),
       (SELECT sum(transfer_seq)::bigint FROM account_state)
"""


@pytest.mark.parametrize("lanes", [1, 2])
def test_both_phases_store_a_row_of_every_kind_for_each_recharge(database: str, lanes: int) -> None:
    fill(database, CITY, tell=lambda _: None)

    def ask(query: str) -> tuple[Any, ...]:
        with psycopg.connect(database) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return row

    with psycopg.connect(database) as connection:
        connection.execute(BARE)
        started = connection.execute(_COUNTS).fetchone()
    assert started is not None
    seller = _Seller(CITY, callers=6, lanes=lanes, owner_dsn=database)
    with signed_in(role_dsn(database, "web"), database), seller:
        sold = seller.ours(0.5)
    after_ours = ask(_COUNTS)
    assert sold.recharges == sum(sold.sets) == len(sold.waits) > 0
    # Audit also tells of orders, none of which a recharge here causes.
    assert {now - then for now, then in zip(after_ours, started, strict=True)} == {sold.recharges}
    assert ask("SELECT count(*), max(number) FROM document WHERE series = 'R'") == (
        sold.recharges, sold.recharges,
    )  # fmt: skip
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        broken = [each for each in check_books(cursor) if "opening" not in each]
    assert broken == []
    bare = seller.ceiling(0.3)
    after_both = ask(_COUNTS)
    assert {now - then for now, then in zip(after_both, after_ours, strict=True)} == {
        bare.recharges
    }
