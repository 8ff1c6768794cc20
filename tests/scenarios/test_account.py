"""The account of a scenario: what an attacker, or a loss, would leave behind is named; what has its reason is not."""

from __future__ import annotations

from dataclasses import replace

from prewatt.scenarios.account import (
    Account,
    _attacks,
    _Instructed,
    _misled,
    _Ordered,
    _strangers,
    _unseen,
    _was_shown,
    _why_open,
)
from prewatt.scenarios.population import populate
from prewatt.scenarios.scenario import read_scenario
from prewatt.sim.records import MeterRecord, Told

T = 1_764_000_000_000_000
CUT = _Ordered("M-1", "open", T, T + 5_000_000)
METER = populate(
    read_scenario(
        'title = "T"\nduration_s = 9\n[[meters]]\nname = "m"\nradio = "mqtt"\ncount = 1\nperiod_s = 3\n'
    ),
    "1",
).meters[0]


def told(command: str, state: str = "open", at_us: int = T + 1_000_000, op: str = "relay") -> Told:
    return Told(at_us, command, op, state, "ok")  # type: ignore[arg-type]


def strangers(one: Told, **record: object) -> list[str]:
    made = MeterRecord("M-1", told=[one], **record)  # type: ignore[arg-type]
    return list(_strangers(made, {7: CUT, 8: replace(CUT, serial="M-2")}, [CUT]))


def test_a_command_that_nobody_decided_is_named() -> None:
    assert strangers(told("7.1.relay")) == []
    assert "no order of its own" in strangers(told("8.1.relay"))[0], "another meter's"
    assert "no order of its own" in strangers(told("9.1.relay"))[0], "an order that never was"
    assert strangers(told("9.1.read", op="read")) == [], "who asks changes nothing"


def test_a_device_whose_commands_have_no_names_is_held_to_the_time_of_its_orders() -> None:
    shown = [(T, 5)]
    assert strangers(told("0.1.relay"), shown=shown) == []
    assert "nobody decided" in strangers(told("0.1.relay", "closed"), shown=shown)[0]
    early = told("0.1.relay", at_us=T - 60_000_000)
    assert "nobody decided" in strangers(early, shown=shown)[0]


def test_a_register_that_no_meter_showed_is_nobodys() -> None:
    record = MeterRecord("M-1", shown=[(T, 500)])
    assert _was_shown((T + 11_700_000, 500), record), "read then, and received after some losses"
    assert not _was_shown((T, 501), record), "a forged register"
    assert not _was_shown((T + 120_000_000, 500), record), "another time"


def test_an_open_order_needs_a_reason_that_the_field_knows() -> None:
    well = MeterRecord(METER.serial)
    assert _why_open(well, METER, "", 3) is None
    assert "welded" in (_why_open(MeterRecord("M", faults=["stuck_relay"]), METER, "", 3) or "")
    assert "out of reach" in (_why_open(MeterRecord("M", is_out=True), METER, "", 3) or "")
    assert _why_open(well, METER, "meter_clock_ahead", 3) == "the meter refuses: meter_clock_ahead"
    assert _why_open(MeterRecord("M", faults=["drop"]), METER, "", 3) is None
    assert "the line" in (_why_open(MeterRecord("M", faults=["reorder"]), METER, "", 3) or "")
    assert _why_open(None, METER, "", 3) is None


def test_what_was_granted_to_an_attacker_breaks_the_account() -> None:
    made = Account(radio={"tried replay": 9, "lost": 3})
    _attacks(made)
    assert (made.attacks, made.radio, made.broken) == ({"replay": 9}, {"lost": 3}, [])
    made = Account(radio={"tried coap_replay": 9, "let in by coap_replay": 1})
    _attacks(made)
    assert made.broken == ["attack coap_replay: got through 1 times"]


def test_an_attack_that_reaches_the_head_end_and_that_nobody_sees_breaks_the_account() -> None:
    made = Account(attacks={"stolen_key": 9, "no_certificate": 9})
    assert len(list(_unseen(made))) == 2, "neither counted nor told to anybody"
    made.refused_frames, made.alerts = {"forged_foreign": 9}, {"meter.forged": 1}
    assert list(_unseen(made)) == []
    assert list(_unseen(Account(attacks={"stolen_key": 0}))) == [], "nobody came to try it"


def test_a_meter_that_carried_out_what_nobody_told_it_is_named() -> None:
    meter = replace(METER, secret="01" * 32, holds_credit=True)
    record = MeterRecord("M-1", instructed=(2, "bb", 500, 0))
    known = _Instructed(500, 2, 500, 500, issued={1: "aa", 2: "bb"})
    assert list(_misled(meter, record, known)) == []
    for forged, word in (
        (replace(known, issued={1: "aa", 2: "cc"}), "nobody told it that"),
        (replace(known, issued={1: "aa"}), "nobody told it that"),
        (replace(known, known=3), "is believed to have come to number 3"),
        (replace(known, signed_micro=501), "is believed to have had 501"),
        (replace(known, told_micro=600), "was told of 600"),
        (replace(known, owed_micro=600), "the ledger has 600"),
    ):
        (said,) = _misled(meter, record, forged)
        assert word in said
    waiting = replace(known, is_open=True, told_micro=0)
    assert "has not answered" in next(_misled(meter, record, waiting))
    unreached = MeterRecord("M-1", instructed=(2, "bb", 500, 0), is_out=True)
    assert list(_misled(meter, unreached, replace(known, owed_micro=600))) == []
    assert (
        list(
            _misled(meter, MeterRecord("M-1", instructed=(0, "00", 0, 0)), _Instructed(0, 0, 0, 0))
        )
        == []
    )
