"""Lists are walked by key: every row once, in order, whatever comes in meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from crowd import add_crowd
from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.reports.estate_query import every_unit_row, unit_list
from prewatt.reports.lists_query import accounts, every_account, messages, meters, money, orders
from prewatt.reports.paging import Page, words

AsOwner = Callable[[Fernmoor], AbstractContextManager[None]]
Ask = Callable[[Page], Any]


def actor(place: Fernmoor) -> Actor:
    return Actor("user:1", Duty.ADMINISTRATOR, (place.property_id,), "Ines", 1)


def walked(ask: Ask, limit: int) -> list[tuple[Any, ...]]:
    """Every page forwards; and backwards from the last they are the same ones."""
    pages, page = [], Page(limit=limit)
    while True:
        found = ask(page)
        pages.append(found)
        assert bool(found.beside.previous) is (len(pages) > 1)
        if not found.beside.next:
            break
        page = Page.of(found.beside.next, "", limit)
    for earlier, later in zip(pages[-2::-1], pages[:0:-1], strict=True):
        again = ask(Page.of("", later.beside.previous, limit))
        assert again.rows == earlier.rows
        assert again.beside.next
    return [found.rows for found in pages]


@pytest.mark.parametrize("sort", ["unit", "time", "balance"])
def test_accounts_are_walked_in_every_order(
    fernmoor: Fernmoor, as_owner: AsOwner, sort: str
) -> None:
    with as_owner(fernmoor):
        add_crowd(fernmoor, 60)
    who = actor(fernmoor)
    pages = walked(lambda page: accounts(actor=who, now=NOW, sort=sort, page=page), 37)
    every = list(every_account(actor=who, now=NOW, sort=sort))
    assert [row for page in pages for row in page] == every
    assert len({row.account_id for row in every}) == len(every) == 156
    assert accounts(actor=who, now=NOW).total == 156
    if sort == "balance":
        assert [row.balance_micro for row in every] == sorted(row.balance_micro for row in every)
    if sort == "time":
        ends = [row.runs_out_at for row in every]
        known = [at for at in ends if at is not None]
        assert known == sorted(known) and ends[: len(known)] == known, (
            "those that never end are last"
        )


def test_other_lists_are_walked_whole(fernmoor: Fernmoor) -> None:
    who = actor(fernmoor)
    asks: dict[str, Ask] = {
        "units": lambda page: unit_list(actor=who, now=NOW, page=page),
        "meters": lambda page: meters(actor=who, now=NOW, page=page),
        "money": lambda page: money(actor=who, now=NOW, days=30, page=page),
        "orders": lambda page: orders(actor=who, now=NOW, show="all", page=page),
        "messages": lambda page: messages(actor=who, now=NOW, page=page),
    }
    for name, ask in asks.items():
        whole = ask(Page())
        rows = [row for page in walked(ask, 3) for row in page]
        assert rows == list(whole.rows) and len(rows) == whole.total > 1, name
    units = list(every_unit_row(actor=who, now=NOW))
    assert units == list(unit_list(actor=who, now=NOW).rows)


def test_nothing_is_shown_twice_or_left_out_when_money_comes_in(
    fernmoor: Fernmoor, as_owner: AsOwner
) -> None:
    who = actor(fernmoor)
    first = money(actor=who, now=NOW, days=30, page=Page(limit=3))
    with as_owner(fernmoor):
        fernmoor._payment(fernmoor.accounts["N-101"], 990, NOW, 5_000_000, "cash")
    second = money(actor=who, now=NOW, days=30, page=Page.of(first.beside.next, "", 3))
    whole = money(actor=who, now=NOW, days=30)
    assert whole.rows[0].event_id == 990
    assert first.rows + second.rows == whole.rows[1:7]
    assert money(actor=who, now=NOW, days=30, page=Page.of("", first.beside.next, 3)).beside.next


def test_a_page_holds_its_place_when_the_row_at_its_edge_moves(
    fernmoor: Fernmoor, as_owner: AsOwner
) -> None:
    who = actor(fernmoor)
    first = accounts(actor=who, now=NOW, sort="balance", page=Page(limit=10))
    last = first.rows[-1]
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET posted = posted + 900000000 WHERE account_id = %s",
            [last.account_id],
        )
    second = accounts(actor=who, now=NOW, sort="balance", page=Page.of(first.beside.next, "", 10))
    assert not {row.account_id for row in first.rows} & {row.account_id for row in second.rows}
    assert min(row.balance_micro for row in second.rows) >= last.balance_micro


@pytest.mark.parametrize(
    "mark", ["", "x", "1", "1_", "_1", "1_2_3", "٣_4", "9" * 19 + "_1", "1 _2", "1_2;--"]
)
def test_what_is_no_mark_is_the_first_page(fernmoor: Fernmoor, mark: str) -> None:
    assert Page.of(mark, mark).mark is None


@pytest.mark.parametrize("mark", [f"{'9' * 18}_{'9' * 18}", f"-{'9' * 18}_0", "0_0"])
def test_a_mark_of_no_row_is_harmless(fernmoor: Fernmoor, mark: str) -> None:
    who = actor(fernmoor)
    for page in (Page.of(mark, ""), Page.of("", mark)):
        for sort in ("unit", "time", "balance"):
            accounts(actor=who, now=NOW, sort=sort, page=page)
        money(actor=who, now=NOW, page=page)
        orders(actor=who, now=NOW, page=page)
        messages(actor=who, now=NOW, page=page)


def test_words_are_found_as_they_are_written(fernmoor: Fernmoor, as_owner: AsOwner) -> None:
    assert words(" N_3  50%\\ ") == ["%n\\_3%", "%50\\%\\\\%"] and words("  ") == ["%"]
    who = actor(fernmoor)
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute("UPDATE customer SET name = 'ÅSA 100%% Öst' WHERE name = 'Orla Fenwick'")
    for query in ("åsa öst", "100% ÖST n-3", "n-305"):
        assert [row.unit for row in accounts(actor=who, now=NOW, query=query).rows] == ["N-305"]
    assert accounts(actor=who, now=NOW, query="n_305").total == 0
    assert accounts(actor=who, now=NOW, query="100%t").total == 0
    at = replace(Page(), limit=1)
    assert messages(actor=who, now=NOW + timedelta(days=1), page=at).total == 2
