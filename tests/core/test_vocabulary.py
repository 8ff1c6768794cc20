"""The codes are stored for ever: this file is the second place where each number is written."""

import pytest

from prewatt.core import vocabulary as v

STORED = {
    v.BoardState: "on=1 vacant=2 protected=3 low=4 emergency=5 offline=6 cut=7 tamper=8",
    v.RelayState: "unknown=0 closed=1 open=2",
    v.OrderKind: "connect=1 disconnect=2 limit=3",
    v.OrderState: "decided=1 sent=2 acknowledged=3 verified=4 failed=5 expired=6 superseded=7"
    " would_have=8",
    v.InstructionState: "issued=1 sent=2 answered=3 refused=4 expired=5 superseded=6",
    v.WalletState: "held=1 releasing=2 ended=3",
    v.WalletEnd: "moved=1 exchanged=2 protected=3 by_hand=4 no_key=5",
    v.Gate: "balance_exhausted=1 reading_fresh=2 warning_delivered=3 window_open=4"
    " not_protected=5 no_payment_in_flight=6 brake_off=7",
    v.GateResult: "open=1 closed=2",
    v.Outcome: "keep=1 hold=2 cut=3 connect=4 stay_cut=5",
    v.Reason: "balance_left=1 already_cut=2 all_gates_open=3 balance_allows=4"
    " balance_below_reconnect=5 already_connected=6 order_stands=7 relay_departed=8 held_reading_stale=12"
    " held_warning_not_delivered=13 held_window_closed=14 held_protected=15"
    " held_payment_in_flight=16 held_brake_on=17 manual=20 move=21 expired_and_decided_again=22"
    " tampering=23",
    v.Protection: "none=0 medical=1 fire=2 lift=3 cold_store=4 other=5",
    v.LevelKind: "money=1 days=2 emergency=3 exhausted=4",
    v.MessageKind: "low_balance=1 emergency_started=2 cut_warning=3 cut_done=4 reconnected=5"
    " recharged=6 brake_on=7 meter_offline=8 tamper=9",
    v.Severity: "info=1 notice=2 warning=3 urgent=4",
    v.DeliveryState: "pending=1 delivered=2 retrying=3 exhausted=4 would_have=5 cancelled=6",
    v.ChannelKind: "outbox=1 email=2",
    v.TamperKind: "cover=1 terminal_cover=2 magnetic_field=3 reverse_flow=4 phase_loss=5 bypass=6"
    " relay_welded=7 clock_set_back=8",
    v.CaseState: "open=1 looked_at=2 closed=3",
    v.TamperResponse: "nothing=1 warn=2 technician=3 hold_emergency=4 cut=5",
    v.RequestKind: "read=1 history=2 clock=3 version=4 reconnect=5",
    v.RequestState: "waiting=1 sent=2 answered=3 refused=4 given_up=5 cancelled=6",
    v.BulkState: "running=1 paused=2 braked=3 stopped=4 done=5",
    v.GapState: "open=1 filled=2 given_up=3",
}


@pytest.mark.parametrize(("enum", "stored"), STORED.items())
def test_codes_are_never_renumbered(enum: type[v.Coded], stored: str) -> None:
    assert " ".join(f"{member.word}={int(member)}" for member in enum) == stored


def test_every_coded_enum_is_pinned() -> None:
    assert set(v.Coded.__subclasses__()) == set(STORED)


def test_the_codes_of_board_states_rise_as_the_guide_has_their_precedence() -> None:
    order = ["tamper", "cut", "offline", "emergency", "low", "protected", "vacant", "on"]
    assert [state.word for state in sorted(v.BoardState, reverse=True)] == order
