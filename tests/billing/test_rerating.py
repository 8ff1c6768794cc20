"""Rating anew: the exact model's cents for the truth as it is known at last, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from tests.core.exact_model import ExactPrices, exact_charges
from tests.invariants.books import check_books
from tests.invariants.places import (
    CLERK,
    NOW,
    OPENED,
    PRICES,
    World,
    at,
    one,
    place,
    post,
    rows,
    send,
)

from prewatt.billing.operations import SelfApproval, create_tariff_version
from prewatt.billing.rerating import Corrected, CorrectionRefused, correct_tariff, rerate
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us

pytestmark = pytest.mark.usefixtures("database")

FLAT = {
    "format": "prewatt-tariff/1",
    "name": "One price",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.1999999"}}},
}


def tariff(here: World, code: str, document: dict[str, Any]) -> None:
    """An approved tariff that has held for ever."""
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code=code, name=code, document=document,
        valid_from=OPENED, approved_by="user:2", now=NOW,
    )  # fmt: skip


def correct(here: World, code: str, from_at: datetime, **changes: Any) -> list[Corrected]:
    """The tenant's account, put on the right tariff by an administrator."""
    return correct_tariff(
        **{
            "actor": here.administrator,
            "property_id": here.property_id,
            "account_ids": [here.accounts["1001"]],
            "tariff_code": code,
            "from_at": from_at,
            "reason": "The contract says the flat price",
            "approved_by": "user:9",
            "now": NOW,
            **changes,
        }
    )


def again(here: World, from_at: datetime) -> list[Corrected]:
    """Rate the tenant's account anew."""
    return rerate(
        actor=CLERK,
        account_ids=[here.accounts["1001"]],
        from_at=from_at,
        reason="late_reading",
        now=NOW,
    )


def available(here: World) -> int:
    return int(
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    )


def charged(here: World, charge: str = "charge_energy") -> int:
    return int(
        one(
            f"SELECT coalesce(sum({charge}), 0) FROM interval WHERE account_id = %s",
            here.accounts["1001"],
        )
    )


def rows_written(here: World) -> list[Any]:
    """How much there is of everything that only grows."""
    return [
        one(f"SELECT count(*) FROM {table} WHERE account_id = %s", here.accounts["1001"])
        for table in ("interval", "transfer", "posting", "message")
    ]


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def used(here: World, readings: Sequence[tuple[float, int]]) -> list[tuple[int, int]]:
    """Send the tenant's readings (hours, register) and return them with the first, for the model."""
    send(here, [("M-101", at(hours), value) for hours, value in readings])
    return [(instant_us(OPENED), 1_000)] + [(instant_us(at(h)), value) for h, value in readings]


READINGS = [(hour * 5.3, 1_000 + hour * 777) for hour in range(1, 30)]


def test_a_wrong_tariff_costs_what_the_right_one_would_have_from_its_instant_on() -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS[:20])
    post(here, until=at(60))
    before, energy = available(here), charged(here, "energy_wh")
    (corrected,) = correct(here, "right", at(30))
    prices = ExactPrices("Europe/Berlin", [(0, PRICES.versions[0][1]), (instant_us(at(30)), FLAT)])
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    assert charged(here, "energy_wh") == energy
    assert before - available(here) == corrected.difference < 0
    assert corrected.since == at(5 * 5.3), "where the first interval that differs begins"
    books_hold(here)
    # What comes afterwards is rated by the right one.
    known += used(here, READINGS[20:])[1:]
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    grown = rows_written(here)
    assert again(here, at(0)) == again(here, at(30)) == again(here, at(77)) == []
    assert rows_written(here) == grown, "a second run writes nothing"


def test_the_difference_is_an_event_of_its_own_that_names_what_it_corrects() -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, READINGS)
    post(here, until=at(60))
    (corrected,) = correct(here, "right", OPENED)
    event = one("SELECT max(event_id) FROM transfer WHERE account_id = %s", corrected.account_id)
    legs = rows(
        """SELECT t.kind, t.reason, t.amount, t.energy_wh, c.kind, c.component = t.component,
                  (c.service_from AT TIME ZONE 'Europe/Berlin')::date
                      = (t.service_from AT TIME ZONE 'Europe/Berlin')::date
           FROM transfer t LEFT JOIN transfer c ON c.account_id = t.account_id
               AND c.seq = t.corrects_seq AND c.event_id = t.corrects_event_id
           WHERE t.account_id = %s AND t.event_id = %s""",
        corrected.account_id, event,
    )  # fmt: skip
    assert len(legs) > 10
    assert {each[:2] for each in legs} == {(int(TransferKind.CORRECTION), "wrong_tariff")}
    assert {each[4:] for each in legs} == {(int(TransferKind.USAGE), True, True)}
    assert sum(each[2] for each in legs) == -corrected.difference
    assert sum(each[3] for each in legs) == 0
    books_hold(here)


def test_a_tariff_that_was_wrong_from_the_first_instant_is_corrected_there() -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS)
    start = one(
        "SELECT min(valid_from) FROM tariff_assignment WHERE account_id = %s", here.accounts["1001"]
    )
    correct(here, "right", start)
    assert abs(charged(here) - exact_charges(known, ExactPrices("Europe/Berlin", [(0, FLAT)]))) <= 1
    assert (
        one("SELECT count(*) FROM tariff_assignment WHERE account_id = %s", here.accounts["1001"])
        == 2
    )
    books_hold(here)


def test_a_correction_is_refused_before_anything_is_written() -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, READINGS)
    grown = rows_written(here)
    with pytest.raises(SelfApproval):
        correct(here, "right", at(5), approved_by="user:5")
    for reason, instant, accounts in (
        ("future", NOW, [here.accounts["1001"]]),
        ("none", at(5), []),
    ):
        with pytest.raises(CorrectionRefused) as refused:
            correct(here, "right", instant, account_ids=accounts)
        assert refused.value.reason == reason
    assert rows_written(here) == grown
