"""The worker's chores of billing: what fails at one property is told there, and stops no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError
from tests.billing.days_world import local
from tests.billing.test_rebates import HOUR, announce, deliver, outcomes, peak_place, rebate, truth
from tests.billing.test_unpriced import give_tariff, take_tariff
from tests.conftest import role_dsn
from tests.invariants.places import NOW, at, place, rows, send, signed_in
from tests.moves.world import World

import prewatt.billing.operations as posting
from prewatt.billing import ingestion, rebates, rerating, tasks
from prewatt.billing.rerate_requests import request_rerating
from prewatt.notify import tries

pytestmark = pytest.mark.usefixtures("database")


def refusing(real: Callable[..., Any], poison: int, told: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that refuses whatever has to do with an account; ``told`` finds its accounts."""

    def refuses(*given: Any, **named: Any) -> Any:
        if poison in told(*given, **named):
            raise DatabaseError("bigint out of range")
        return real(*given, **named)

    return refuses


def alerts(code: str) -> list[tuple[Any, ...]]:
    """(property, subject, why) of the open ones."""
    return rows(
        """SELECT property_id, subject, detail->>'why' FROM alert
           WHERE code = %s AND closed_at IS NULL ORDER BY id""",
        code,
    )


def told_at(here: World) -> list[tuple[Any, ...]]:
    return [(here.property_id, f"property:{here.property_id}", "DatabaseError")]


def posted(here: World) -> bool:
    return bool(rows("SELECT 1 FROM posting WHERE property_id = %s", here.property_id))


def test_days_are_posted_beside_a_property_whose_posting_fails(
    monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    bad, good = place(), place()
    for each in (bad, good):
        send(each, [("M-101", at(hour), 1_000 + hour) for hour in range(1, 30)])
    poison = bad.accounts["1001"]
    fails = refusing(posting.post_chunk, poison, lambda _actor, accounts, **_given: accounts)
    with monkeypatch.context() as broken, signed_in(role_dsn(database, "clerk"), database):
        broken.setattr(posting, "post_chunk", fails)
        assert tasks.post_finished_days(now=NOW) > 0
        assert tasks.post_finished_days(now=NOW) == 0
    assert (posted(bad), posted(good)) == (False, True)
    assert alerts("billing.posting_failed") == told_at(bad), "the same trouble is one alert"
    assert tasks.post_finished_days(now=NOW) > 0
    assert posted(bad)
    assert alerts("billing.posting_failed") == []


def test_charges_are_rated_anew_beside_a_property_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = place(), place()
    for each in (bad, good):
        send(each, [("M-101", at(6), 1_777)])
        request_rerating(from_at={each.accounts["1001"]: at(0)}, reason="terms", now=NOW)
    waiting = "SELECT property_id FROM rerate_request WHERE done_at IS NULL"
    fails = refusing(
        rerating._rerate_chunk, bad.accounts["1001"], lambda _actor, wanted, *_given: wanted
    )
    with monkeypatch.context() as broken:
        broken.setattr(rerating, "_rerate_chunk", fails)
        tasks.rate_anew(now=NOW)
    assert rows(waiting) == [(bad.property_id,)]
    assert alerts("billing.rerating_failed") == told_at(bad)
    tasks.rate_anew(now=NOW)
    assert rows(waiting) == [] == alerts("billing.rerating_failed")


def test_held_readings_are_rated_beside_a_property_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = place(), place()
    for each in (bad, good):
        taken = take_tariff(each)
        send(each, [("M-101", at(5), 2_000)])
        give_tariff(each, taken)
    fails = refusing(
        ingestion.apply_readings, bad.meters["M-101"], lambda batch, **_given: batch.meter_id
    )
    with monkeypatch.context() as broken:
        broken.setattr(ingestion, "apply_readings", fails)
        assert tasks.rate_held_readings(now=NOW) == 1
    assert alerts("billing.held_failed") == told_at(bad)
    assert tasks.rate_held_readings(now=NOW) == 1
    assert alerts("billing.held_failed") == []


def test_rebates_are_settled_beside_a_property_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = (peak_place(rebate(baseline_days=3)) for _ in range(2))
    for each in (bad, good):
        announce(each, "2026-11-18T17:00", "2026-11-18T20:00")
        deliver(each, truth("2026-11-20T00:00", lambda _begin: 1_000))
    due = local("2026-11-18T20:00") + 24 * HOUR
    poison = bad.accounts["1001"]
    fails = refusing(
        rebates._settle, poison, lambda _actor, _peak, _calendar, accounts, _now: accounts
    )
    with monkeypatch.context() as broken:
        broken.setattr(rebates, "_settle", fails)
        tasks.settle_peaks(now=due)
    assert (outcomes(bad) == [], outcomes(good) == []) == (True, False)
    assert alerts("billing.rebates_failed") == told_at(bad)
    # The look was not noted, so it is taken again.
    tasks.settle_peaks(now=due)
    assert outcomes(bad) != []
    assert alerts("billing.rebates_failed") == []


def test_a_database_that_is_away_fails_the_chore_and_is_no_propertys_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place()

    def away(*_given: Any, **_named: Any) -> Any:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(tasks, "_due", away)
    monkeypatch.setattr(tries, "raise_alert", away)
    with pytest.raises(OperationalError):
        tasks.post_finished_days(now=NOW)
