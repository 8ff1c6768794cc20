"""Lets: paid before they begin, closed by themselves, and every cent back that was not used."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.estate.tables import NOW, tables
from tests.moves.world import World, available, hours, rows, snapshot, tenant

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.billing.operations import create_tariff_version
from prewatt.core.accounts import CounterAccount
from prewatt.core.temporary import LetRefused
from prewatt.estate.operations import NewCustomer
from prewatt.estate.sheets import PropertySheets
from prewatt.moves import lets
from prewatt.moves.lets import (
    LetBegun,
    NotTemporary,
    PaidTooLittle,
    close_ended_lets,
    close_let,
    let_unit,
)
from prewatt.moves.onboarding import import_property
from prewatt.moves.words import FirstRecharge, NewTenant
from prewatt.vending.refunds import RefundRefused, pay_refund, refund_balance

pytestmark = pytest.mark.usefixtures("database")

EURO = 1_000_000
#: 10 euro a day and 50 deposit; the energy costs 25 cents a kilowatt-hour.
BOOTH: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Booth by the day",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.25"}}},
    "temporary": {"unit": "day", "fee": "10.00", "deposit": "50.00"},
    "taxes": [{"code": "vat", "label": "VAT", "rate": "19", "on": ["fee"], "inclusive": True}],
}


def market() -> World:
    """A property whose flat 102 is vacant and let by the day; its meter stands at 2,000 Wh."""
    made = tables()
    made["tariffs"].append(
        {"code": "booth", "name": "Booth", "document": json.dumps(BOOTH), "approved_by": "user:2"}
    )
    report = import_property(actor=system_actor("import"), sheets=PropertySheets.of(made), now=NOW)
    here = report.property_id
    return World(
        here,
        dict(rows("SELECT serial, id FROM meter WHERE property_id = %s", here)),
        dict(rows("SELECT code, id FROM unit WHERE property_id = %s", here)),
        dict(rows("SELECT number, id FROM account WHERE property_id = %s", here)),
    )


def begin(
    here: World, *, until: datetime | None = None, paid: int = 100, code: str = "booth", key: str = "k"
) -> LetBegun:  # fmt: skip
    """Let flat 102 from 9 in the morning of 2 November for three days."""
    return let_unit(
        actor=here.administrator,
        unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Mara Ruiz"), code),
        opening=here.register("M-102", 2_000),
        at=hours(33),
        until=until or hours(33 + 50),
        payment=FirstRecharge(paid * EURO),
        key=key,
        now=NOW,
    )


def counters(account_id: int) -> dict[int, int]:
    """What stands against each counter-account."""
    return dict(
        rows(
            "SELECT counter_account, sum(amount)::bigint FROM transfer WHERE account_id = %s "
            "GROUP BY 1",
            account_id,
        )
    )


def test_a_let_takes_fee_and_deposit_and_leaves_the_rest_for_energy() -> None:
    here = market()
    let = begin(here)
    assert (let.units, let.fee_micro, let.deposit_micro) == (3, 30 * EURO, 50 * EURO)
    assert let.available_micro == 20 * EURO == available(let.account_id)
    assert counters(let.account_id) == {
        CounterAccount.CASH: 100 * EURO,
        CounterAccount.DEPOSITS: -50 * EURO,
        # 30 euro contain 19 % of tax.
        CounterAccount.FEE_REVENUE: -25_210_084,
        CounterAccount.TAX_PAYABLE: -4_789_916,
    }
    assert begin(here).repeated
    assert rows("SELECT count(*) FROM temporary_let") == [(1,)]


def test_a_let_closes_and_refunds_itself_at_its_end() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(60), 10_000)
    assert close_ended_lets(now=hours(33 + 50) + timedelta(minutes=1)) == 0, "no reading yet"
    here.read("M-102", hours(83), 14_000)
    assert close_ended_lets(now=NOW) == 1
    assert close_ended_lets(now=NOW) == 0
    # 12 kWh at 25 cents are 3 euro: 20 − 3 + 50 come back.
    ((state, amount),) = rows("SELECT state, amount_micro FROM refund")
    assert (state, amount) == ("due", 67 * EURO)
    assert available(let.account_id) == 0
    standing = counters(let.account_id)
    assert standing[CounterAccount.DEPOSITS] == 0
    assert standing[CounterAccount.REFUNDS_PAYABLE] == -67 * EURO
    assert rows("SELECT close_reason FROM temporary_let") == [("ended",)]
    vacancy = rows("SELECT account_id FROM meter_assignment WHERE upper_inf(period) AND meter_id = %s", here.meters["M-102"])  # fmt: skip
    assert vacancy != [(let.account_id,)]


def test_who_leaves_early_gets_back_the_days_that_had_not_started() -> None:
    here = market()
    let = begin(here)
    done = close_let(
        actor=here.administrator, let_id=let.let_id, closing=here.register("M-102", 6_000),
        at=hours(40), now=NOW,
    )  # fmt: skip
    assert (done.fee_back_micro, done.refund_micro) == (20 * EURO, (20 - 1 + 20 + 50) * EURO)
    corrections = rows("SELECT amount, corrects_seq IS NOT NULL FROM transfer WHERE kind = 9")
    assert sum(amount for amount, _ in corrections) == 20 * EURO
    assert all(names for _, names in corrections)
    again = close_let(
        actor=here.administrator, let_id=let.let_id, closing=[], at=hours(41), now=NOW
    )
    assert again.repeated and again.refund_micro == done.refund_micro


def test_a_silent_meter_does_not_keep_a_let_open() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(60), 10_000)
    end = hours(33 + 50)
    assert close_ended_lets(now=end + lets.SILENCE - timedelta(seconds=1)) == 0
    assert close_ended_lets(now=end + lets.SILENCE) == 1
    assert rows("SELECT close_reason, closed_at FROM temporary_let") == [("silent", end)]
    # What the meter counted after its last word is not the customer's.
    here.read("M-102", hours(100), 90_000)
    assert available(let.account_id) == 0


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"paid": 79}, PaidTooLittle),
        ({"code": "flat"}, NotTemporary),
        ({"until": hours(33)}, LetRefused),
    ],
)
def test_a_refused_let_leaves_nothing_behind(
    change: dict[str, Any], refusal: type[Exception]
) -> None:
    here = market()
    before = snapshot()
    with pytest.raises(refusal):
        begin(here, **change)
    assert snapshot() == before
    with pytest.raises(PermissionRefused):
        let_unit(
            actor=here.operator, unit_id=here.units["102"], tenant=tenant(), opening=[],
            at=hours(33), until=hours(40), payment=FirstRecharge(EURO), key="x", now=NOW,
        )  # fmt: skip


def test_a_season_ends_a_let_that_names_no_end() -> None:
    here = market()
    create_tariff_version(
        actor=system_actor("import"), property_id=here.property_id, code="season", name="Season",
        document=BOOTH | {"temporary": {"unit": "day", "fee": "0", "deposit": "5",
                                        "season": {"from": "11-01", "until": "11-05"}}},
        valid_from=hours(0), approved_by="user:2", now=NOW,
    )  # fmt: skip
    let = let_unit(
        actor=here.administrator, unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Iva"), "season"), at=hours(33),
        opening=here.register("M-102", 2_000), until=None, payment=FirstRecharge(6 * EURO),
        key="s", now=NOW,
    )  # fmt: skip
    assert let.ends_at == hours(96).isoformat()
    assert let.units == 3


def test_a_refund_is_paid_once_and_only_off_a_closed_account() -> None:
    here = market()
    with pytest.raises(RefundRefused) as still:
        refund_balance(
            actor=here.administrator, account_id=here.accounts["1001"], reason="x", now=NOW
        )
    assert still.value.reason == "open"
    begin(here)
    here.read("M-102", hours(83), 14_000)
    close_ended_lets(now=NOW)
    ((refund_id,),) = rows("SELECT id FROM refund")
    elsewhere = Actor("user:9", Duty.OPERATOR, (here.property_id + 1,))
    for actor, why in ((elsewhere, PermissionRefused), (here.operator, None)):
        if why is not None:
            with pytest.raises((why, RefundRefused)):
                pay_refund(actor=actor, refund_id=refund_id, way="cash", reference="", now=NOW)
        else:
            pay_refund(actor=actor, refund_id=refund_id, way="cash", reference="", now=NOW)
    with pytest.raises(RefundRefused) as twice:
        pay_refund(actor=here.operator, refund_id=refund_id, way="cash", reference="", now=NOW)
    assert twice.value.reason == "paid"
    assert rows("SELECT state, paid_by FROM refund") == [("paid", "user:6")]
