"""Meters exchanged and registers read by hand: the account goes on, and no kilowatt-hour is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection
from tests.estate.tables import NOW
from tests.moves.world import (
    PRICE_MICRO_PER_WH,
    World,
    available,
    charged_wh,
    hours,
    rows,
    snapshot,
    world,
)

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.billing.ingestion import apply_readings
from prewatt.core.civil_time import instant_us
from prewatt.core.hand_readings import LEAST_WH, MULTIPLE
from prewatt.core.instructions import Operation
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import Verdict
from prewatt.core.vocabulary import WalletEnd
from prewatt.estate.operations import NewMeter, RegisterValue
from prewatt.instructions.operations import enrol_key, revoke_key
from prewatt.instructions.releases import ANSWER_WITHIN_DAYS, carry_over, tell_of_unanswered
from prewatt.instructions.wallets import (
    Wallets,
    end_without_answer,
    hold_credit,
    release_credit,
)
from prewatt.moves import operations as moves
from prewatt.moves.words import (
    MeterExchanged,
    NameTaken,
    ReadingBeyond,
    ReadingEntered,
    RegisterRefused,
    TooEarly,
    UnknownPlace,
)
from prewatt.signing.es256 import ES256PrivateKey, device_key_id


@pytest.fixture
def here(database: str) -> World:
    return world()


def _exchange(
    here: World, closing_wh: int, at: float, *, meter: NewMeter | None = None, key: str = "k",
    old: str = "M-101", opening_wh: int = 7, public_key: bytes | None = None,
) -> MeterExchanged:  # fmt: skip
    return moves.exchange_meter(
        actor=here.administrator, meter_id=here.meters[old], closing_wh=closing_wh,
        new_meter=meter or NewMeter("N-1", multiplier=2), opening_wh=opening_wh, at=hours(at),
        key=key, now=NOW, public_key=public_key,
    )  # fmt: skip


def test_an_exchange_charges_both_devices_to_one_account(here: World) -> None:
    here.read("M-101", hours(1), 1_400)
    exchanged = _exchange(here, 2_000, 10)
    account = here.accounts["1001"]
    assert exchanged.account_id == account
    batch = ReadingBatch.of(
        meter_id=np.array([exchanged.new_meter_id], dtype=np.int64),
        read_at_us=np.array([instant_us(hours(11))], dtype=np.int64),
        value_wh=np.array([107], dtype=np.int64),
        received_at_us=instant_us(NOW),
    )
    assert apply_readings(batch=batch, now=NOW).accepted == 1
    # The new device counts behind a transformer of ratio two.
    assert charged_wh(account) == 1_000 + 2 * 100
    assert available(account) == 25_500_000 - 1_200 * PRICE_MICRO_PER_WH
    assert here.read("M-101", hours(12), 2_100) is Verdict.AFTER_CLOSING
    assert charged_wh(account) == 1_200
    assert rows(
        """SELECT m.serial, i.start_value_wh, i.end_value_wh, upper_inf(i.period)
           FROM installation i JOIN meter m ON m.id = i.meter_id
           JOIN metering_point p ON p.id = i.metering_point_id
           WHERE p.code = 'P-101' ORDER BY i.period"""
    ) == [("M-101", 1_000, 2_000, False), ("N-1", 7, None, True)]


def test_credit_in_a_meter_goes_on_in_the_one_that_takes_its_place(here: World) -> None:
    account = here.accounts["1001"]
    keys = [ES256PrivateKey.from_scalar(bytes([n] * 32)).spki for n in (1, 2, 3)]
    on = {"actor": here.administrator, "property_id": here.property_id, "now": NOW}
    enrol_key(**on, meter_id=here.meters["M-101"], public_key=keys[0])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE supply_state SET protection = '' WHERE account_id = %s", [account])
    hold_credit(**on, meter_id=here.meters["M-101"], account_id=account)
    # In one action where its key is known; where it comes later, once it is there.
    first = _exchange(here, 2_000, 10, public_key=keys[1]).new_meter_id
    left = available(account)
    held = """SELECT meter_id, state, because, total_micro, release_by FROM meter_wallet
              WHERE account_id = %s ORDER BY id"""
    ended = [(here.meters["M-101"], 2, WalletEnd.EXCHANGED, 25_500_000, here.administrator.code)]
    assert rows(held, account) == [*ended, (first, 1, None, left, "")]
    here.meters["N-1"] = first
    second = _exchange(
        here, 100, 20, meter=NewMeter("N-2"), key="k2", old="N-1", opening_wh=7
    ).new_meter_id
    worker = {"actor": system_actor("worker"), "now": NOW}
    assert carry_over(**worker) == 0
    enrol_key(**on, meter_id=second, public_key=keys[2])
    assert (carry_over(**worker), carry_over(**worker)) == (1, 0)
    assert [row[:3] for row in rows(held, account)[1:]] == [
        (first, 2, WalletEnd.EXCHANGED), (second, 1, None),
    ]  # fmt: skip
    # What a person ends stays ended. Those that do not sign it are somebody's case, at once where they cannot.
    release_credit(**on, meter_id=second)
    assert carry_over(**worker) == 0 and tell_of_unanswered(**worker) == 0
    with connection.cursor() as cursor:
        # It has said that it understands the first form of instructions alone.
        cursor.execute(
            """INSERT INTO instruction_state (meter_id, property_id, known_hash, understands)
               VALUES (%s, %s, %s, 7)""",
            [first, here.property_id, bytes(32)],
        )
    assert tell_of_unanswered(**worker) == 1
    revoke_key(**on, key_id=device_key_id(keys[0]), reason="burnt")
    assert tell_of_unanswered(**worker) == 2
    assert tell_of_unanswered(actor=worker["actor"], now=NOW + ANSWER_WITHIN_DAYS) == 3
    for meter in (here.meters["M-101"], first):
        end_without_answer(**on, meter_id=meter, note="burnt")
    assert tell_of_unanswered(**worker) == 0
    assert rows("SELECT count(*), count(closed_at) FROM alert WHERE code = 'meter.not_released'") == [(3, 3)]  # fmt: skip

    # Held again until its tenant leaves: the head-end sees that somebody else pays, and tells the meter.
    end_without_answer(**on, meter_id=second, note="tried")
    hold_credit(**on, meter_id=second, account_id=account)
    ((unit,),) = rows("SELECT unit_id FROM metering_point WHERE code = 'P-101'")
    moves.move_out(
        actor=here.administrator, unit_id=unit, closing=[RegisterValue(second, 107)], at=hours(30),
        key="out", now=NOW,
    )  # fmt: skip
    (wish,) = Wallets(system_actor("head_end")).due(property_ids=[here.property_id], now=NOW)
    assert (wish.meter_id, wish.operation) == (second, Operation.RELEASE)
    assert rows(held, account)[-1][:3] == (second, 2, WalletEnd.MOVED)


def test_a_feeder_is_exchanged_although_nobody_pays_by_it(here: World) -> None:
    exchanged = _exchange(here, 12_000, 10, old="M-F")
    assert exchanged.account_id is None
    assert rows("SELECT count(*) FROM meter_state WHERE meter_id = %s", exchanged.new_meter_id) == [
        (0,)
    ]


def test_a_refused_exchange_leaves_the_old_device_in_place(here: World) -> None:
    here.read("M-101", hours(20), 3_000)
    before = snapshot()
    with pytest.raises(TooEarly) as refused:
        _exchange(here, 2_000, 10)
    assert refused.value.earliest == hours(20)
    with pytest.raises(NameTaken):
        _exchange(here, 3_500, 30, meter=NewMeter("M-102"))
    with pytest.raises(RegisterRefused):
        _exchange(here, 2_999, 30)
    with pytest.raises(RegisterRefused):
        _exchange(here, 3_500, 30, opening_wh=10**9)
    with pytest.raises(UnknownPlace):
        moves.exchange_meter(
            actor=here.administrator, meter_id=10**6, closing_wh=1, new_meter=NewMeter("N"),
            opening_wh=0, at=hours(30), key="x", now=NOW,
        )  # fmt: skip
    assert snapshot() == before


def test_an_exchange_repeats_by_its_key_alone(here: World) -> None:
    first = _exchange(here, 2_000, 10)
    assert _exchange(here, 2_000, 10) == replace(first, repeated=True)


def test_an_operator_enters_a_reading_and_it_is_charged_like_any_other(here: World) -> None:
    entered = moves.manual_reading(
        actor=here.operator,
        meter_id=here.meters["M-101"],
        value_wh=1_800,
        read_at=hours(5),
        now=NOW,
    )
    assert (entered.verdict, entered.held) == ("mdm.vee.accepted", False)
    account = here.accounts["1001"]
    assert available(account) == 25_500_000 - 800 * PRICE_MICRO_PER_WH
    assert rows(
        "SELECT source, value_wh FROM register_reading WHERE meter_id = %s ORDER BY read_at",
        here.meters["M-101"],
    ) == [(3, 1_000), (2, 1_800)]
    repeated = moves.manual_reading(
        actor=here.operator,
        meter_id=here.meters["M-101"],
        value_wh=1_800,
        read_at=hours(5),
        now=NOW,
    )
    assert (repeated.verdict, charged_wh(account)) == ("mdm.vee.duplicate", 800)


def test_one_operator_alone_cannot_charge_an_account_empty(here: World) -> None:
    """The attack: below the meter's rating, so validation has nothing to say, and far above its usage."""
    meter, account = here.meters["M-101"], here.accounts["1001"]
    for day in range(1, 12):
        here.read("M-101", hours(24 * day), 1_000 + 300 * day)
    before, usual = available(account), 300
    last, at = 1_000 + 300 * 11, hours(24 * 11)

    def enter(actor: Actor, wh: int, minutes: int) -> ReadingEntered:
        return moves.manual_reading(
            actor=actor, meter_id=meter, value_wh=last + wh, now=NOW,
            read_at=at + timedelta(minutes=minutes), reason="display", reference="IMG-1",
        )  # fmt: skip

    with pytest.raises(ReadingBeyond) as refused:
        enter(here.operator, 40_000, 24 * 60)
    assert refused.value.energy_wh == 40_000
    assert refused.value.plausible_wh == max(MULTIPLE * usual, LEAST_WH)
    assert available(account) == before and rows("SELECT count(*) FROM vee_case") == [(0,)]
    # Nor by many small ones, each plausible beside the one before, by one operator or by several.
    taken = 0
    for quarter in range(1, 96):
        actor = here.operator if quarter % 2 else replace(here.operator, code="user:77")
        try:
            entered = enter(actor, taken + 500, 15 * quarter)
        except ReadingBeyond:
            continue
        assert not entered.held
        taken += 500
    assert taken == LEAST_WH
    assert available(account) == before - LEAST_WH * PRICE_MICRO_PER_WH
    # An administrator may, and the audit has what it did.
    enter(here.administrator, 40_000, 24 * 60)
    ((detail,),) = rows(
        """SELECT detail FROM audit_event WHERE code = 'mdm.reading.entered'
           ORDER BY id DESC LIMIT 1"""
    )
    figures = json.loads(detail) if isinstance(detail, str) else detail
    assert figures["energy_wh"] == 40_000 > figures["plausible_wh"]
    assert figures["before"]["last_wh"] == last + taken
    assert figures["after"]["last_wh"] == last + 40_000
    assert (
        figures["before"]["available_micro"] - figures["after"]["available_micro"]
        == (figures["charged_micro"])
    )
    assert figures["charged_micro"] == (40_000 - taken) * PRICE_MICRO_PER_WH


def test_a_meter_that_was_silent_for_days_is_read_by_an_operator(here: World) -> None:
    for day in range(1, 12):
        here.read("M-101", hours(24 * day), 1_000 + 3_000 * day)
    entered = moves.manual_reading(
        actor=here.operator, meter_id=here.meters["M-101"], value_wh=1_000 + 33_000 + 5 * 4_000,
        read_at=hours(24 * 16), now=NOW,
    )  # fmt: skip
    assert not entered.is_beyond and entered.energy_wh == 20_000
    assert entered.plausible_wh == MULTIPLE * 5 * 3_000


def test_an_absurd_reading_by_hand_waits_in_validation(here: World) -> None:
    for value_wh, verdict in ((900, "backwards"), (900_000_000, "implausible")):
        entered = moves.manual_reading(
            actor=here.operator, meter_id=here.meters["M-101"], value_wh=value_wh, now=NOW,
            read_at=hours(5),
        )  # fmt: skip
        assert (entered.verdict, entered.held) == (f"mdm.vee.{verdict}", True)
    assert charged_wh(here.accounts["1001"]) == 0
    assert rows("SELECT value_wh, reason, state FROM vee_case ORDER BY case_id") == [
        (900, "mdm.vee.backwards", "held"),
        (900_000_000, "mdm.vee.implausible", "held"),
    ]


def test_readings_by_hand_need_a_duty_a_meter_in_scope_and_somebody_who_pays(here: World) -> None:
    def enter(actor: Actor, serial: str) -> None:
        moves.manual_reading(
            actor=actor, meter_id=here.meters[serial], value_wh=1_800, read_at=hours(5), now=NOW
        )

    with pytest.raises(PermissionRefused):
        enter(Actor("user:7", Duty.AUDITOR, (here.property_id,)), "M-101")
    with pytest.raises(UnknownPlace):
        enter(Actor("user:8", Duty.OPERATOR, (here.property_id + 1,)), "M-101")
    with pytest.raises(UnknownPlace):
        enter(here.operator, "M-F")
