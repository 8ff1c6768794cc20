"""The reports agree with the tables and with themselves, in few statements, within the scope."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, scope
from prewatt.core.money import round_to_minor
from prewatt.core.rating import Component
from prewatt.core.vocabulary import BoardState, Gate
from prewatt.reports.account import EntryKind
from prewatt.reports.account_query import account_page
from prewatt.reports.lists_query import accounts, meters, money, orders
from prewatt.reports.paging import Page
from prewatt.reports.place import NoSuchThing, local_day, rows
from prewatt.reports.recharge_query import effect_of, recharge_form
from prewatt.reports.today import NeedKind, Warned
from prewatt.reports.today_query import today
from prewatt.reports.units import ends_at, unit_name
from prewatt.vending.queries import Deducted, RechargePreview


def administrator(place: Fernmoor, property_id: int | None = None) -> Actor:
    """The administrator of the property, or of another."""
    return Actor("user:1", Duty.ADMINISTRATOR, (property_id or place.property_id,), "Ines", 1)


def test_every_unit_shows_the_one_state_that_matters_most(fernmoor: Fernmoor) -> None:
    report = today(actor=administrator(fernmoor), now=NOW)
    shown = {
        f"{house.name[0]}{unit.code}": unit.state
        for house in report.houses
        for floor in house.floors
        for unit in floor.units
    }
    assert len(shown) == 96
    assert shown["N404"] is BoardState.CUT
    assert shown["N603"] is BoardState.EMERGENCY
    assert shown["N305"] is BoardState.LOW
    assert shown["N502"] is BoardState.OFFLINE
    assert shown["S403"] is BoardState.TAMPER
    assert shown["N104"] is BoardState.PROTECTED
    assert shown["N801"] is BoardState.VACANT
    assert shown["N802"] is BoardState.ON
    assert sum(count for _, count in report.state_counts()) == 96


def test_today_adds_up_to_the_tables(fernmoor: Fernmoor) -> None:
    actor = administrator(fernmoor)
    report = today(actor=actor, now=NOW)
    day = local_day(NOW, "Europe/Berlin")
    with scope(actor):
        paid, recharges = rows(
            "SELECT sum(amount_micro), count(*) FROM payment WHERE accepted_at >= %s",
            [day.begins_at],
        )[0]
        used, wh = rows(
            "SELECT sum(charge_energy), sum(energy_wh) FROM interval WHERE start_at >= %s",
            [day.begins_at],
        )[0]
    figures = report.figures
    assert (figures.money_in_micro, figures.recharges) == (paid, recharges)
    assert (figures.energy_out_micro, figures.energy_out_wh) == (used, wh)
    assert sum(flow.in_micro for flow in report.flow) == paid
    assert sum(flow.out_micro for flow in report.flow) == used
    assert sum(amount for _, amount in report.methods) == paid
    assert (figures.cut, figures.vacant, figures.supplied) == (2, 2, 94)


def test_needs_are_sorted_by_harm_and_endings_by_time(fernmoor: Fernmoor) -> None:
    report = today(actor=administrator(fernmoor), now=NOW)
    assert [need.kind for need in report.needs] == [
        NeedKind.PAID_NOT_CONFIRMED,
        NeedKind.SILENT,
        NeedKind.TAMPER,
        NeedKind.WARNING_NOT_DELIVERED,
    ]
    ends = [ending.runs_out_at for ending in report.endings]
    assert ends == sorted(ends)
    warned = {ending.unit: ending.warned for ending in report.endings}
    assert warned["N-305"] is Warned.DELIVERED and warned["N-206"] is Warned.PENDING
    assert not {"N-404", "N-801"} & warned.keys(), "neither the cut nor the vacant run out"


def test_a_receipt_that_arrived_does_not_hide_a_warning_that_did_not(
    fernmoor: Fernmoor, as_owner: Callable[[Fernmoor], AbstractContextManager[None]]
) -> None:
    with as_owner(fernmoor):
        fernmoor.message(
            fernmoor.accounts["N-206"], "vending.recharged", NOW - timedelta(hours=19), 2
        )
    needs = today(actor=administrator(fernmoor), now=NOW).needs
    assert NeedKind.WARNING_NOT_DELIVERED in {need.kind for need in needs}


def test_today_needs_few_statements_however_many_units(fernmoor: Fernmoor) -> None:
    with CaptureQueriesContext(connection) as said:
        today(actor=administrator(fernmoor), now=NOW)
    asked = [query for query in said.captured_queries if "SELECT" in query["sql"]]
    assert len(asked) <= 16


def test_the_account_proves_its_balance(fernmoor: Fernmoor) -> None:
    page = account_page(
        actor=administrator(fernmoor), account_id=fernmoor.accounts["N-305"], now=NOW, entries=200
    )
    assert page.balance.posted_micro - page.balance.used_micro == 5_960_000
    # Each day's end is the next day's minus what it used, plus what it received.
    for before, after in zip(page.days, page.days[1:], strict=False):
        assert after.balance_micro == (
            before.balance_micro - after.charge_micro + after.recharged_micro
        )
    assert page.points[-1].micro == 5_960_000 and page.points[-1].at == NOW
    assert [point.at for point in page.points] == sorted(point.at for point in page.points)
    lines = [entry.lines for entry in page.entries if entry.lines is not None]
    numbers = {number for first, last in lines for number in range(first, last + 1)}
    assert numbers == set(range(1, page.last_line + 1)), "the timeline leaves no line out"
    # As it is shown, each line leads from one balance to the next, and its parts come to it.
    booked = sorted(
        (entry for entry in page.entries if entry.lines), key=lambda entry: entry.lines or (0, 0)
    )
    for earlier, later in pairwise(booked):
        assert earlier.balance_micro is not None
        assert later.balance_micro is not None
        cents = [round_to_minor(each.balance_micro or 0)[0] for each in (earlier, later)]
        assert later.shown_micro == (cents[1] - cents[0]) * 10_000
        assert sum(amount for _, amount in later.shown_parts) == later.shown_micro
    kinds = {entry.kind for entry in page.entries}
    assert {EntryKind.USAGE, EntryKind.RECHARGE, EntryKind.ORDER, EntryKind.MESSAGE} <= kinds
    assert page.outlook.runs_out_at is not None
    assert page.outlook.earliest_cut_at is not None
    assert page.outlook.earliest_cut_at >= page.outlook.runs_out_at


def test_a_correction_stands_beside_what_it_corrects(
    fernmoor: Fernmoor, as_owner: Callable[[Fernmoor], AbstractContextManager[None]]
) -> None:
    account = fernmoor.accounts["N-305"]
    plain = account_page(actor=administrator(fernmoor), account_id=account, now=NOW, entries=200)
    usage = [entry for entry in plain.entries if entry.kind is EntryKind.USAGE]
    oldest, day = usage[-1], usage[-1].service
    assert day is not None
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
                   component, counter_account, amount, posted_after, currency, service_from,
                   service_to, booked_at, actor, reason)
               SELECT t.account_id, l.seq + 1, t.property_id, t.legal_entity_id, 990001, 9, 1,
                      t.counter_account, 123456, l.posted_after + 123456, t.currency, t.service_from,
                      t.service_to, %s, 'system:rerating', 'terms'
               FROM transfer t, (SELECT seq, posted_after FROM transfer WHERE account_id = %s
                                 ORDER BY seq DESC LIMIT 1) l
               WHERE t.account_id = %s AND t.event_id = %s LIMIT 1""",
            [NOW, account, account, oldest.event_id],
        )
    for limit in (200, 25):
        page = account_page(
            actor=administrator(fernmoor), account_id=account, now=NOW, entries=limit
        )
        kinds = [(each.kind, each.service) for each in page.entries]
        at = kinds.index((EntryKind.CORRECTION, day)) if limit == 200 else None
        if at is None:
            # Where the charge itself is further down, so is what corrects it.
            assert (EntryKind.USAGE, day) in kinds or (EntryKind.CORRECTION, day) not in kinds
        else:
            assert kinds[at + 1] == (EntryKind.USAGE, day)
            assert page.entries[at].booked_at == NOW and page.entries[at].is_late


def test_gates_are_those_of_the_decision_itself(fernmoor: Fernmoor) -> None:
    actor = administrator(fernmoor)
    page = account_page(actor=actor, account_id=fernmoor.accounts["N-305"], now=NOW)
    assert [line.gate for line in page.gates] == list(Gate)
    assert [line.gate for line in page.closed_gates] == [Gate.BALANCE_EXHAUSTED]
    night = account_page(
        actor=actor, account_id=fernmoor.accounts["N-104"], now=NOW + timedelta(hours=8)
    )
    closed = {line.gate for line in night.closed_gates}
    assert {Gate.WINDOW_OPEN, Gate.NOT_PROTECTED, Gate.READING_FRESH} <= closed
    vacant = account_page(actor=actor, account_id=fernmoor.accounts["N-801"], now=NOW)
    assert vacant.gates == ()


def test_a_stranger_to_the_property_sees_nothing(fernmoor: Fernmoor) -> None:
    stranger = administrator(fernmoor, fernmoor.property_id + 1)
    for ask in (
        lambda: today(actor=stranger, now=NOW),
        lambda: account_page(actor=stranger, account_id=fernmoor.accounts["N-305"], now=NOW),
        lambda: recharge_form(actor=stranger, account_id=fernmoor.accounts["N-305"], now=NOW),
    ):
        with pytest.raises(NoSuchThing):
            ask()


def test_lists_filter_sort_and_sum_the_whole_selection(fernmoor: Fernmoor) -> None:
    actor = administrator(fernmoor)
    found = accounts(actor=actor, now=NOW, query="fenwick n-3")
    assert [row.unit for row in found.rows] == ["N-305"]
    cut = accounts(actor=actor, now=NOW, state=BoardState.CUT, sort="balance")
    assert [row.unit for row in cut.rows] == ["N-404", "S-602"]
    assert cut.sum_micro == -10_120_000
    assert {row.unit for row in meters(actor=actor, now=NOW, show="silent").rows} == {
        "N-502",
        "N-503",
    }
    assert [row.unit for row in orders(actor=actor, now=NOW, show="open").rows] == ["S-106"]
    part = money(actor=actor, now=NOW, days=1, page=Page(limit=3))
    assert (len(part.rows), part.total, part.sum_micro) == (3, 7, 245_000_000)


def test_money_repays_emergency_credit_before_it_is_balance(fernmoor: Fernmoor) -> None:
    form = recharge_form(
        actor=administrator(fernmoor), account_id=fernmoor.accounts["N-404"], now=NOW
    )
    effect = effect_of(form, RechargePreview(20_000_000, ()))
    assert (effect.charges, effect.debts, effect.emergency_micro) == ((), (), 5_100_000)
    assert (form.debts, form.debt_micro, form.is_whole) == ((), 0, True)
    assert effect.credit_micro + effect.emergency_micro == effect.amount_micro
    assert effect.balance_after_micro == 14_900_000 and effect.reconnects
    assert not effect_of(form, RechargePreview(50_000, ())).reconnects
    taken = (
        Deducted(Component.STANDING, "standing", 9_000_000),
        Deducted(Component.DEBT, "D-1", 500_000),
    )
    less = effect_of(form, RechargePreview(20_000_000, taken))
    assert (less.charges, less.debts) == (taken[:1], taken[1:])
    assert less.balance_after_micro == 14_900_000 - 9_500_000
    assert less.emergency_micro + less.credit_micro == 10_500_000


def test_names_and_days_at_their_edges() -> None:
    assert unit_name("N", "305") == "N-305" and unit_name("A", "K5") == "K5"
    assert local_day(NOW.replace(month=3, day=29), "Europe/Berlin").hours == 23
    assert local_day(NOW.replace(month=10, day=25), "Europe/Berlin").hours == 25
    assert ends_at(NOW, 1, 0) is None and ends_at(NOW, 10**15, 1) is None
    assert ends_at(NOW, 2_000_000, 1_000_000) == NOW + timedelta(days=2)
