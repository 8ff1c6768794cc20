"""Tenants out, in and over: who pays for which kilowatt-hour, and what a new tenant never gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from django.db import IntegrityError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.estate.tables import NOW
from tests.moves.world import (
    PRICE_MICRO_PER_WH,
    World,
    available,
    charged_wh,
    hours,
    rows,
    snapshot,
    tenant,
    world,
)

from cases import cases
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.core.vee import Verdict
from prewatt.estate.imports import EMERGENCY_LIMIT_MICRO
from prewatt.ledger.operations import KeyReused, PeriodClosed, close_period
from prewatt.moves import operations as moves
from prewatt.moves.foresight import foresee
from prewatt.moves.words import (
    EmergencyRefused,
    FirstRecharge,
    InFuture,
    MeterSilent,
    MovedIn,
    MovedOut,
    NameTaken,
    RechargeFailed,
    RegisterMissing,
    RegisterRefused,
    TenantChanged,
    TooEarly,
    UnitOccupied,
    UnitVacant,
    UnknownPlace,
)
from prewatt.vending.operations import Recharge, Recharged, RechargeRefused, recharge

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def here(database: str) -> World:
    return world()


def _out(here: World, value_wh: int, at: float, key: str = "out", unit: str = "101") -> MovedOut:
    return moves.move_out(
        actor=here.administrator, unit_id=here.units[unit], at=hours(at), key=key, now=NOW,
        closing=here.register(f"M-{unit}", value_wh),
    )  # fmt: skip


def _in(
    here: World, value_wh: int, at: float, key: str = "in", unit: str = "102", number: str = "",
    first: FirstRecharge | None = None,
) -> MovedIn:  # fmt: skip
    return moves.move_in(
        actor=here.administrator, unit_id=here.units[unit], at=hours(at), key=key, now=NOW,
        tenant=tenant(number=number), opening=here.register(f"M-{unit}", value_wh),
        first_recharge=first,
    )  # fmt: skip


def _change(
    here: World, value_wh: int, at: float, key: str = "change", unit: str = "101"
) -> TenantChanged:
    return moves.tenant_change(
        actor=here.administrator, unit_id=here.units[unit], at=hours(at), key=key, now=NOW,
        tenant=tenant(), registers=here.register(f"M-{unit}", value_wh),
    )  # fmt: skip


def test_moving_out_charges_to_the_instant_and_leaves_the_rest_with_the_former_tenant(
    here: World,
) -> None:
    here.read("M-101", hours(1), 2_000)
    moved = _out(here, 5_000, 10)
    left = 25_500_000 - 4_000 * PRICE_MICRO_PER_WH
    assert (moved.account_id, moved.balance_left_micro) == (here.accounts["1001"], left)
    posted, open_charges = rows(
        "SELECT posted, posted - available FROM account_state WHERE account_id = %s",
        moved.account_id,
    )[0]
    assert (posted, open_charges) == (left, 0)
    assert here.read("M-101", hours(11), 5_600) is Verdict.ACCEPTED
    assert charged_wh(moved.account_id) == 4_000
    assert charged_wh(moved.vacancy_account_id) == 600
    assert rows("SELECT kind, number FROM account WHERE id = %s", moved.vacancy_account_id) == [
        ("vacancy", "V-A-101")
    ]
    wish = Recharge("k", moved.account_id, 1_000_000, "cash", "", NOW)
    (answer,) = recharge(actor=here.operator, recharges=[wish], now=NOW)
    assert isinstance(answer, RechargeRefused)


def test_moving_in_starts_at_zero_and_the_owner_pays_for_the_time_before(here: World) -> None:
    entered = _in(here, 2_700, 24)
    vacancy = here.accounts["V-A-102"]
    assert entered.former_account_id == vacancy
    assert (charged_wh(vacancy), available(vacancy)) == (700, -700 * PRICE_MICRO_PER_WH)
    assert (charged_wh(entered.account_id), entered.available_micro) == (0, 0)
    here.read("M-102", hours(25), 3_000)
    assert charged_wh(entered.account_id) == 300
    assert available(entered.account_id) == -300 * PRICE_MICRO_PER_WH


def test_the_first_recharge_comes_with_the_keys_or_not_at_all(here: World) -> None:
    before = snapshot()
    with pytest.raises(RechargeFailed) as failed:
        _in(here, 2_000, 24, first=FirstRecharge(0))
    assert failed.value.code == "vending.recharge.amount_not_positive"
    assert snapshot() == before
    entered = _in(here, 2_000, 24, first=FirstRecharge(20_000_000))
    assert entered.available_micro == 20_000_000 == available(entered.account_id)


def test_invariant_6_a_new_tenant_starts_at_zero(here: World) -> None:
    former = here.accounts["1001"]
    meter = here.meters["M-101"]
    here.read("M-101", hours(100), 1_000 + 200_000)
    assert available(former) < 0
    rows(
        """UPDATE supply_state SET fired_mask = 7, level = 1, level_fired_at = now(), held = true,
               reconsider_at = now(), desired = 2, emergency_micro = 5000000,
               payment_hold_until = now()
           WHERE account_id = %s""",
        former,
    )
    rows("UPDATE meter_link SET relay = 2 WHERE meter_id = %s", meter)
    _live_disconnect(here, former, meter)
    changed = _change(here, 1_000 + 210_000, 200)
    new = changed.account_id
    assert rows(
        """SELECT posted, available, carry_energy, carry_standing, carry_tax, carry_fee,
                  carry_demand, transfer_seq, interval_no, posted_interval_no, posting_no,
                  spend_per_day, last_interval_at = '-infinity'
           FROM account_state WHERE account_id = %s""",
        new,
    ) == [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, True)]
    assert rows(
        """SELECT fired_mask, level, level_fired_at, held, reconsider_at, emergency_micro,
                  protection, payment_hold_until FROM supply_state WHERE account_id = %s""",
        new,
    ) == [(0, 0, None, False, None, 0, "", None)]
    for table in ("transfer", "interval", "posting", "payment", "vee_case", "message",
                  "supply_order", "register_reading"):  # fmt: skip
        assert rows(f"SELECT count(*) FROM {table} WHERE account_id = %s", new) == [(0,)], table
    assert rows("SELECT count(*) FROM supply_order WHERE state IN (1, 2, 3)") == [(0,)]
    assert rows("SELECT held FROM supply_state WHERE account_id = %s", former) == [(False,)]
    # A late reading of the former time is theirs; it may not move the new tenant's account.
    assert here.read("M-101", hours(150), 1_000 + 205_000) is Verdict.BACKFILL
    assert available(new) == 0
    assert available(former) == 25_500_000 - 210_000 * PRICE_MICRO_PER_WH


def _live_disconnect(here: World, account_id: int, meter_id: int) -> None:
    decision = rows(
        """INSERT INTO supply_decision (property_id, account_id, decided_at, outcome, reason, gates,
               available_micro, would_have, trigger)
           VALUES (%s, %s, %s, 3, 'all_gates_open', '[]', 0, false, 'reading') RETURNING id""",
        here.property_id, account_id, hours(100),
    )[0][0]  # fmt: skip
    rows(
        """INSERT INTO supply_order (property_id, account_id, meter_id, kind, state, decision_id,
               reason, decided_at, attempts, failure) VALUES (%s, %s, %s, 2, 2, %s, 'x', %s, 1, '')""",
        here.property_id, account_id, meter_id, decision, hours(100),
    )  # fmt: skip


def test_the_first_credit_closes_a_relay_that_a_former_tenant_left_open(here: World) -> None:
    rows("UPDATE meter_link SET relay = 2 WHERE meter_id = %s", here.meters["M-102"])
    entered = _in(here, 2_000, 24)
    wish = Recharge("k", entered.account_id, 30_000_000, "cash", "", NOW)
    (answer,) = recharge(actor=here.operator, recharges=[wish], now=NOW)
    assert isinstance(answer, Recharged)
    assert rows(
        "SELECT account_id, kind FROM supply_order WHERE meter_id = %s AND state = 1",
        here.meters["M-102"],
    ) == [(entered.account_id, 1)]


def test_a_unit_goes_through_many_hands_and_its_vacancy_account_comes_back(here: World) -> None:
    first = _out(here, 2_000, 10, "a")
    entered = _in(here, 2_500, 20, "b", unit="101")
    second = _out(here, 4_000, 30, "c")
    again = _in(here, 4_100, 40, "d", unit="101")
    assert first.vacancy_account_id == second.vacancy_account_id == again.former_account_id
    assert charged_wh(first.vacancy_account_id) == 500 + 100
    assert charged_wh(entered.account_id) == 1_500
    assert rows(
        """SELECT account_id, start_value_wh, end_value_wh FROM meter_assignment
           WHERE meter_id = %s ORDER BY period""",
        here.meters["M-101"],
    ) == [
        (first.account_id, 1_000, 2_000),
        (first.vacancy_account_id, 2_000, 2_500),
        (entered.account_id, 2_500, 4_000),
        (first.vacancy_account_id, 4_000, 4_100),
        (again.account_id, 4_100, None),
    ]


# Without shrinking: each example is a property of its own, and a failing one is short already.
@settings(
    max_examples=cases(8),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4_000), st.sampled_from(["read", "read", "change", "out", "in"])),
        min_size=1, max_size=9,
    ),
)  # fmt: skip
def test_energy_at_every_boundary_is_charged_once_to_exactly_one_account(
    database: str, steps: list[tuple[int, str]]
) -> None:
    """An independent model: whoever holds the unit pays for the difference of two registers."""
    count = rows("SELECT count(*) FROM property")[0][0]
    here = world(f"-{count}")
    register, holder, let = 1_000, here.accounts["1001"], True
    owed: dict[int, int] = {holder: 0}
    for number, (used_wh, what) in enumerate(steps, start=1):
        register += used_wh
        owed[holder] += used_wh
        key = f"{count}-{number}"
        if what == "out" and let:
            holder, let = _out(here, register, number, key).vacancy_account_id, False
        elif what == "in" and not let:
            holder, let = _in(here, register, number, key, unit="101").account_id, True
        elif what == "change" and let:
            holder = _change(here, register, number, key).account_id
        else:
            assert here.read("M-101", hours(number), register) is Verdict.ACCEPTED
        owed.setdefault(holder, 0)
        # The reading at the boundary, sent once more by the meter, changes nothing.
        assert here.read("M-101", hours(number), register) in (Verdict.DUPLICATE, Verdict.ACCEPTED)
    assert {account: charged_wh(account) for account in owed} == owed
    assert sum(owed.values()) == register - 1_000
    for account, energy_wh in owed.items():
        opening = 25_500_000 if account == here.accounts["1001"] else 0
        assert available(account) == opening - energy_wh * PRICE_MICRO_PER_WH


def test_two_moves_at_one_instant_are_refused(here: World) -> None:
    _change(here, 2_000, 10, "a")
    with pytest.raises(TooEarly):
        _change(here, 2_000, 10, "b")


def test_a_move_in_the_future_is_refused(here: World) -> None:
    before = snapshot()
    with pytest.raises(InFuture):
        moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], key="k", now=NOW,
            at=NOW + timedelta(seconds=1), closing=here.register("M-101", 2_000),
        )  # fmt: skip
    assert snapshot() == before


@pytest.mark.parametrize("value_wh", [999, -1, 10**9, 900_000_000])
def test_a_closing_register_nobody_believes_is_refused_and_leaves_nothing(
    here: World, value_wh: int
) -> None:
    before = snapshot()
    with pytest.raises(RegisterRefused):
        _out(here, value_wh, 10)
    assert snapshot() == before


def test_every_meter_of_the_unit_needs_its_register(here: World) -> None:
    with pytest.raises(RegisterMissing) as refused:
        moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], at=hours(10), key="k", now=NOW,
            closing=[],
        )  # fmt: skip
    assert refused.value.serials == ("M-101",)
    with pytest.raises(RegisterMissing):
        moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], at=hours(10), key="k", now=NOW,
            closing=here.register("M-102", 2_000),
        )  # fmt: skip


def test_nobody_moves_out_of_a_vacant_unit_or_into_a_let_one(here: World) -> None:
    with pytest.raises(UnitVacant):
        _out(here, 2_000, 10, unit="102")
    with pytest.raises(UnitOccupied):
        _in(here, 2_000, 10, unit="101")


def test_a_taken_number_an_unknown_tariff_or_customer_leaves_nothing(here: World) -> None:
    before = snapshot()
    with pytest.raises(NameTaken):
        _in(here, 2_000, 10, number="1001")
    for wrong in (replace(tenant(), tariff_code="gone"), replace(tenant(), customer=10**6)):
        with pytest.raises(UnknownPlace):
            moves.move_in(
                actor=here.administrator, unit_id=here.units["102"], tenant=wrong, at=hours(10),
                opening=here.register("M-102", 2_000), key="k", now=NOW,
            )  # fmt: skip
    assert snapshot() == before


@pytest.mark.parametrize("micro", [-1, EMERGENCY_LIMIT_MICRO + 1])
def test_emergency_credit_out_of_bounds_leaves_nothing(here: World, micro: int) -> None:
    """Below zero it would cut a supply that is paid for."""
    before = snapshot()
    wrong = replace(tenant(), emergency_micro=micro)
    with pytest.raises(EmergencyRefused, match="between 0 and 100000"):
        moves.move_in(
            actor=here.administrator, unit_id=here.units["102"], tenant=wrong, at=hours(10),
            opening=here.register("M-102", 2_000), key="k", now=NOW,
        )  # fmt: skip
    with pytest.raises(EmergencyRefused):
        moves.tenant_change(
            actor=here.administrator, unit_id=here.units["101"], tenant=wrong, at=hours(10),
            registers=here.register("M-101", 2_000), key="k", now=NOW,
        )  # fmt: skip
    assert snapshot() == before
    moves.move_in(
        actor=here.administrator, unit_id=here.units["102"], at=hours(10), key="k", now=NOW,
        tenant=replace(wrong, emergency_micro=EMERGENCY_LIMIT_MICRO),
        opening=here.register("M-102", 2_000),
    )  # fmt: skip
    assert rows("SELECT max(emergency_micro) FROM supply_state") == [(EMERGENCY_LIMIT_MICRO,)]


@pytest.mark.parametrize(
    "act",
    [
        lambda here: _out(here, 2_000, 10),
        lambda here: _in(here, 2_000, 10, first=FirstRecharge(5_000_000)),
        lambda here: _change(here, 2_000, 10),
    ],
)
def test_the_same_key_moves_once(
    here: World, act: Callable[[World], MovedOut | MovedIn | TenantChanged]
) -> None:
    first = act(here)
    before = snapshot()
    second = act(here)
    assert second == replace(first, repeated=True)
    assert snapshot() == before


def test_the_same_key_with_another_body_is_refused(here: World) -> None:
    _out(here, 2_000, 10, "k")
    before = snapshot()
    with pytest.raises(KeyReused):
        _in(here, 2_000, 10, "k")
    with pytest.raises(KeyReused):
        _in(here, 2_000, 10, "")
    assert snapshot() == before


def test_a_key_used_at_another_property_is_refused_although_it_is_out_of_sight(here: World) -> None:
    _out(here, 2_000, 10, "k")
    there = world("-2")
    before = snapshot()
    with pytest.raises(KeyReused):
        _out(there, 2_000, 10, "k")
    assert snapshot() == before


def test_operators_do_not_move_tenants_and_strangers_see_no_unit(here: World) -> None:
    for duty in (Duty.OPERATOR, Duty.AUDITOR):
        with pytest.raises(PermissionRefused):
            moves.move_out(
                actor=Actor("user:7", duty, (here.property_id,)), unit_id=here.units["101"],
                at=hours(10), key="k", now=NOW, closing=here.register("M-101", 2_000),
            )  # fmt: skip
    with pytest.raises(UnknownPlace):
        moves.move_out(
            actor=Actor("user:8", Duty.ADMINISTRATOR, (here.property_id + 1,)), key="k", now=NOW,
            unit_id=here.units["101"], at=hours(10), closing=here.register("M-101", 2_000),
        )  # fmt: skip


def test_a_closed_period_takes_no_move(here: World) -> None:
    close_period(
        actor=system_actor("close", (here.property_id,)), property_id=here.property_id,
        open_from=date(2026, 11, 3), now=NOW,
    )  # fmt: skip
    before = snapshot()
    with pytest.raises(PeriodClosed):
        _out(here, 2_000, 10)
    assert snapshot() == before
    assert _out(here, 2_000, 48).account_id == here.accounts["1001"]


def test_the_database_refuses_overlapping_tenancies_and_assignments(here: World) -> None:
    for table, columns in (
        ("tenancy", "property_id, unit_id, customer_id, account_id"),
        ("meter_assignment", "property_id, meter_id, account_id, start_value_wh"),
        ("installation", "property_id, meter_id, metering_point_id, start_value_wh"),
    ):
        for period in ("tstzrange('2026-11-09', NULL)", "tstzrange('2026-11-09', '2026-11-10')"):
            end = "" if table == "tenancy" or "NULL" in period else ", end_value_wh"
            statement = f"""INSERT INTO {table} ({columns}, period{end})
                            SELECT {columns}, {period}{end and ", 0"} FROM {table}"""
            with pytest.raises(IntegrityError, match="exclusion constraint"):
                rows(statement)


def test_every_move_is_on_record(here: World) -> None:
    _out(here, 2_000, 10, "a")
    _in(here, 2_500, 20, "b", unit="101")
    assert rows("SELECT code, actor FROM audit_event WHERE code LIKE 'moves.%' ORDER BY id") == [
        ("moves.tenant.out", "user:5"),
        ("moves.tenant.in", "user:5"),
    ]


def test_a_move_is_foreseen_to_the_micro_unit_and_nothing_is_left_of_looking(here: World) -> None:
    here.read("M-101", hours(1), 2_000)
    before, register = snapshot(), here.register("M-101", 5_000)

    def out(key: str) -> MovedOut:
        return moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], at=hours(10), key=key, now=NOW,
            closing=register, book_refund=True,
        )  # fmt: skip

    seen = foresee(
        actor=here.administrator, unit_id=here.units["101"], deed=out,
        at_of=lambda each: each.effective_at,
    )  # fmt: skip
    assert snapshot() == before
    former = seen.accounts[here.accounts["1001"]]
    assert former.energy_wh == 3_000
    assert former.charged_micro == -3_000 * PRICE_MICRO_PER_WH
    assert former.before_micro + former.charged_micro == former.after_micro
    assert [(each.serial, each.last_wh, each.boundary_wh) for each in seen.registers] == [
        ("M-101", 2_000, 5_000)
    ]
    done = out("out")
    assert replace(done, vacancy_account_id=0) == replace(seen.answer, vacancy_account_id=0)
    assert done.refund_micro == former.after_micro and done.balance_left_micro == 0
    assert available(done.account_id) == 0
    assert out("out") == replace(done, repeated=True)
    assert rows("SELECT amount_micro, state, reason FROM refund") == [
        (done.refund_micro, "due", "moved_out")
    ]
    assert rows(
        "SELECT detail ->> 'amount_micro' FROM message WHERE code = 'vending.refund_due'"
    ) == [(str(done.refund_micro),)]


def test_what_would_be_refused_is_refused_at_the_look(here: World) -> None:
    with pytest.raises(UnitVacant):
        foresee(
            actor=here.administrator, unit_id=here.units["102"],
            deed=lambda key: _out(here, 5_000, 10, key=key, unit="102"),
            at_of=lambda each: each.effective_at,
        )  # fmt: skip


def test_a_boundary_is_where_the_meters_stand_or_somebody_reads_a_silent_one(here: World) -> None:
    here.read("M-101", hours(10), 2_500)

    def out(now: datetime, key: str = "out") -> MovedOut:
        return moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], at=None, closing=None, key=key,
            now=now,
        )  # fmt: skip

    with pytest.raises(MeterSilent) as silent:
        out(hours(10) + timedelta(seconds=1801))
    assert (silent.value.serial, silent.value.last_at) == ("M-101", hours(10))
    moved = out(hours(10) + timedelta(seconds=1800))
    assert moved.effective_at == hours(10).isoformat()
    assert rows(
        "SELECT end_value_wh FROM meter_assignment WHERE account_id = %s", moved.account_id
    ) == [(2_500,)]
    # The meters have gone on; the answer under the same key is the same.
    here.read("M-101", hours(11), 2_600)
    assert out(hours(11)) == replace(moved, repeated=True)


def test_a_refund_is_not_booked_while_the_account_pays_for_another_unit(here: World) -> None:
    rows(
        """INSERT INTO tenancy (property_id, unit_id, customer_id, account_id, period)
           SELECT property_id, %s, customer_id, account_id, period FROM tenancy WHERE unit_id = %s""",
        here.units["102"], here.units["101"],
    )  # fmt: skip
    moved = moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=hours(10), key="o", now=NOW,
        closing=here.register("M-101", 2_000), book_refund=True,
    )  # fmt: skip
    assert moved.refund_micro == 0 and rows("SELECT count(*) FROM refund") == [(0,)]
