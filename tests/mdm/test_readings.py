"""Readings as they come: none lost, none believed against reason, each with its verdict and place."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.invariants.places import NOW, at, one, place, rows, send

from prewatt.core.vee import VERDICT_NAMES, Verdict

pytestmark = pytest.mark.usefixtures("database")


def test_what_cannot_be_is_held_once_with_its_reason_and_does_not_move_the_watermark() -> None:
    here = place()
    send(here, [("M-101", at(2), 5_000)])
    wrong = {
        Verdict.BACKWARDS: ("M-101", at(3), 4_999),
        Verdict.IMPLAUSIBLE: ("M-101", at(4), 10_000_000),
        Verdict.FUTURE: ("M-101", NOW + timedelta(minutes=10), 5_100),
        Verdict.BEFORE_OPENING: ("M-101", at(-1), 900),
        Verdict.CONFLICT: ("M-101", at(2), 5_001),
        Verdict.NEGATIVE: ("M-101", at(5), -1),
    }
    for _ in range(2):
        for verdict, reading in wrong.items():
            assert send(here, [reading]) == [verdict]
    assert rows("SELECT verdict, reason, state FROM vee_case ORDER BY verdict") == sorted(
        (int(each), VERDICT_NAMES[each], "held") for each in wrong
    )
    assert send(here, [("M-101", at(6), 5_200)]) == [Verdict.ACCEPTED]
    assert one("SELECT sum(energy_wh) FROM interval") == 4_200


def test_a_register_that_passes_zero_goes_on_counting() -> None:
    here = place()
    rows("UPDATE meter_state SET modulus_wh = 10000 WHERE meter_id = %s", here.meters["M-101"])
    verdicts = send(here, [("M-101", at(1), 9_990), ("M-101", at(2), 15), ("M-101", at(3), 20)])
    assert verdicts == [Verdict.ACCEPTED] * 3
    assert one("SELECT sum(energy_wh) FROM interval") == 8_990 + 25 + 5


def test_a_jump_over_a_gap_says_that_it_is_an_estimate_until_it_is_filled() -> None:
    here = place()
    send(here, [("M-101", at(0.25), 1_100), ("M-101", at(4), 5_000)])
    assert rows("SELECT quality, sum(energy_wh) FROM interval GROUP BY 1 ORDER BY 1") == [
        (1, 100),
        (2, 3_900),
    ]
    assert send(here, [("M-101", at(2), 4_900)]) == [Verdict.BACKFILL]
    assert one("SELECT sum(energy_wh) FROM interval") == 4_000
    assert rows("SELECT start_at, segment FROM interval WHERE energy_wh < 0") == [
        (at(0.25), 10_000)
    ]


def test_transformers_multiply_and_one_batch_serves_many_meters_and_places() -> None:
    here, there = place(), place()
    rows("UPDATE meter_state SET multiplier = 40 WHERE meter_id = %s", here.meters["M-102"])
    send(here, [("M-101", at(1), 1_010), ("M-102", at(1), 2_010), ("M-LIFT", at(1), 3_010)])
    send(there, [("M-101", at(1), 1_020)])
    found = dict(rows("SELECT account_id, sum(energy_wh) FROM interval GROUP BY 1"))
    assert found == {
        here.accounts["1001"]: 10,
        here.accounts["V-A-102"]: 400,
        here.accounts["OWN-LIFT"]: 10,
        there.accounts["1001"]: 20,
    }
    assert rows(
        """SELECT count(*) FROM interval i JOIN account a ON a.id = i.account_id
           WHERE a.property_id <> i.property_id"""
    ) == [(0,)]
