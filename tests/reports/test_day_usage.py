"""The day's usage is the same whether it is added up at once or as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, scope
from prewatt.reports import day_usage as module
from prewatt.reports.day_usage import DayUsage, day_usage
from prewatt.reports.place import LocalDay, local_day, rows

AsOwner = Callable[[Fernmoor], AbstractContextManager[None]]
DAY = local_day(NOW, "Europe/Berlin")


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    module._kept.clear()
    yield
    module._kept.clear()


def actor(place: Fernmoor) -> Actor:
    return Actor("user:1", Duty.OPERATOR, (place.property_id,), "Tomas", 1)


def look(place: Fernmoor, day: LocalDay = DAY) -> DayUsage:
    with scope(actor(place)):
        return day_usage(place.property_id, day)


def plain(place: Fernmoor, day: LocalDay = DAY) -> tuple[dict[int, int], int]:
    """The same from all rows of the day, whoever wrote them."""
    with scope(actor(place)):
        found = rows(
            """SELECT from_at, charge_energy, energy_wh FROM interval
               WHERE start_at >= %s AND start_at < %s""",
            [day.begins_at, day.ends_at],
        )
    charges: dict[int, int] = {}
    for at, charge, _ in found:
        charges[day.hour_of(at)] = charges.get(day.hour_of(at), 0) + charge
    return charges, sum(wh for _, _, wh in found)


def same(usage: DayUsage, place: Fernmoor, day: LocalDay = DAY) -> bool:
    return (dict(usage.charges), usage.energy_wh) == plain(place, day)


def count_numbers(place: Fernmoor) -> None:
    """Bring the counters of the accounts up to their intervals, as ingest leaves them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state s SET interval_no = i.n
               FROM (SELECT account_id, max(interval_no) AS n FROM interval GROUP BY 1) i
               WHERE i.account_id = s.account_id"""
        )


def meter_of(account: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT meter_id FROM meter_state WHERE account_id = %s", [account])
        return int(cursor.fetchone()[0])


def add(place: Fernmoor, unit: str, at: datetime, wh: int, *, back: bool = False) -> None:
    """One more interval of a unit, numbered as the next; ``back`` makes it take back."""
    account = place.accounts[unit]
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state SET interval_no = interval_no + 1 WHERE account_id = %s
               RETURNING interval_no""",
            [account],
        )
        number = int(cursor.fetchone()[0])
        place._interval(account, meter_of(account), number, at, wh)
        if back:
            cursor.execute(
                """UPDATE interval SET segment = 10000, energy_wh = -energy_wh,
                       charge_energy = -charge_energy WHERE account_id = %s AND interval_no = %s""",
                [account, number],
            )


def test_what_comes_later_is_added_to_what_was_there(fernmoor: Fernmoor, as_owner: AsOwner) -> None:
    with as_owner(fernmoor):
        count_numbers(fernmoor)
    first = look(fernmoor)
    assert same(first, fernmoor) and first.energy_wh > 0
    with as_owner(fernmoor):
        add(fernmoor, "N-305", NOW - timedelta(minutes=5), 700)
        add(fernmoor, "N-305", NOW - timedelta(minutes=4), 300)
        add(fernmoor, "N-603", NOW - timedelta(hours=7, minutes=13), 120)
        # A late reading of yesterday takes a number and is not of this day.
        add(fernmoor, "N-603", NOW - timedelta(days=1, minutes=7), 999)
    second = look(fernmoor)
    assert same(second, fernmoor)
    assert second.energy_wh == first.energy_wh + 1_120
    with as_owner(fernmoor):
        # A correction: the row is taken back and said anew.
        add(fernmoor, "N-305", NOW - timedelta(minutes=3), 700, back=True)
        add(fernmoor, "N-305", NOW - timedelta(minutes=2), 650)
    third = look(fernmoor)
    assert same(third, fernmoor)
    assert third.energy_wh == second.energy_wh - 50


def test_what_was_added_is_not_read_again(fernmoor: Fernmoor, as_owner: AsOwner) -> None:
    with as_owner(fernmoor):
        count_numbers(fernmoor)
    look(fernmoor)
    with as_owner(fernmoor):
        add(fernmoor, "N-305", NOW - timedelta(minutes=5), 700)
        # Were it read again, it would be missed.
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM interval WHERE account_id = %s AND interval_no = 1",
                [fernmoor.accounts["N-603"]],
            )
    with CaptureQueriesContext(connection) as said:
        usage = look(fernmoor)
    read = [query["sql"] for query in said.captured_queries if "JOIN interval" in query["sql"]]
    assert len(read) == 1 and "unnest" in read[0]
    with CaptureQueriesContext(connection) as said:
        assert look(fernmoor) == usage
    assert not [query for query in said.captured_queries if "JOIN interval" in query["sql"]]


def test_a_new_account_and_a_new_day_are_added_up_whole(
    fernmoor: Fernmoor, as_owner: AsOwner
) -> None:
    with as_owner(fernmoor):
        count_numbers(fernmoor)
        with connection.cursor() as cursor:
            account = fernmoor.accounts["N-603"]
            cursor.execute(
                "UPDATE meter_state SET last_at = opened_at, closed_at = %s WHERE account_id = %s",
                [DAY.begins_at, account],
            )
    without = look(fernmoor)
    assert not same(without, fernmoor)
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE meter_state SET closed_at = 'infinity' WHERE account_id = %s", [account]
        )
    assert same(look(fernmoor), fernmoor)
    yesterday = local_day(NOW, "Europe/Berlin", back=1)
    assert same(look(fernmoor, yesterday), fernmoor, yesterday)
    assert look(fernmoor, yesterday) != look(fernmoor)


def test_a_database_that_was_put_back_is_added_up_afresh(
    fernmoor: Fernmoor, as_owner: AsOwner
) -> None:
    with as_owner(fernmoor):
        count_numbers(fernmoor)
        add(fernmoor, "N-305", NOW - timedelta(minutes=5), 700)
    look(fernmoor)
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute(
            """WITH last AS (UPDATE account_state SET interval_no = interval_no - 1
                             WHERE account_id = %s RETURNING interval_no)
               DELETE FROM interval USING last
               WHERE account_id = %s AND interval.interval_no > last.interval_no""",
            [fernmoor.accounts["N-305"]] * 2,
        )
    assert same(look(fernmoor), fernmoor)


def test_one_day_of_only_so_many_properties_is_kept(
    fernmoor: Fernmoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT_MAX", 2)
    here = fernmoor.property_id
    look(fernmoor, local_day(NOW, "Europe/Berlin", back=1))
    with scope(actor(fernmoor)):
        for property_id in (here, here + 1, here, here + 2):
            day_usage(property_id, DAY)
    assert [key[-1] for key in module._kept] == [here, here + 2]
    assert {usage.begins_at for usage in module._kept.values()} == {DAY.begins_at}
