"""Validation against a plain-Python reference: the same verdicts, wherever batches are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.bounds import Int64
from prewatt.core.vee import (
    HELD_VERDICTS,
    OPEN_ENDED_US,
    VERDICT_NAMES,
    MeterWatermarks,
    Validated,
    VeeLimits,
    Verdict,
    validate_readings,
)

SECOND = 1_000_000
PERIOD = 900 * SECOND
OPENED = 1_750_000_000 * SECOND
NOW = OPENED + 40 * PERIOD
LIMITS = VeeLimits(clock_tolerance_us=120 * SECOND, gap_periods=2, least_gap_us=SECOND)

Reading = tuple[int, int]
"""(instant, value)"""


@dataclass
class Meter:
    """One meter in the reference model."""

    last: Reading = (OPENED, 500)
    opened: Reading = (OPENED, 500)
    closed_at: int = OPEN_ENDED_US
    modulus: int = 1_000
    wh_per_count: int = 10
    max_power_w: int = 4_000
    period_us: int = PERIOD
    ahead_uj: int = 0


def judge(meter: Meter, reading: Reading) -> tuple[Verdict, tuple[int, int, int, bool, bool]]:
    """The rules, written out one after the other; moves the watermark of an accepted reading."""
    (at, value), (last_at, last_value) = reading, meter.last
    nothing = (0, 0, 0, False, False)
    if value < 0:
        return Verdict.NEGATIVE, nothing
    if at > NOW + LIMITS.clock_tolerance_us:
        return Verdict.FUTURE, nothing
    if at < meter.opened[0]:
        return Verdict.BEFORE_OPENING, nothing
    if at > meter.closed_at:
        return Verdict.AFTER_CLOSING, nothing
    if meter.modulus and value >= meter.modulus:
        return Verdict.IMPLAUSIBLE, nothing
    for known in (meter.last, meter.opened):
        if at == known[0] and at <= last_at:
            return (Verdict.DUPLICATE if value == known[1] else Verdict.CONFLICT), nothing
    if at < last_at:
        return Verdict.BACKFILL, nothing
    if at - last_at < LIMITS.least_gap_us:
        return Verdict.TOO_CLOSE, nothing
    full, count = meter.max_power_w * (at - last_at), meter.wh_per_count * 3600 * SECOND
    burst = meter.max_power_w * LIMITS.jitter_us + count
    # A bucket that has become smaller is full and no more.
    ahead = min(meter.ahead_uj, burst)
    most = (full + burst - ahead) // count
    counts, rolled = value - last_value, False
    if counts < 0:
        counts, rolled = counts + meter.modulus, True
        if not meter.modulus or counts > most:
            return Verdict.BACKWARDS, nothing
    if counts > most:
        return Verdict.IMPLAUSIBLE, nothing
    meter.last = reading
    meter.ahead_uj = max(0, ahead + counts * count - full)
    gap = bool(meter.period_us) and at - last_at > LIMITS.gap_periods * meter.period_us
    return Verdict.ACCEPTED, (last_at, last_value, counts * meter.wh_per_count, rolled, gap)


def _column(values: list[int]) -> Int64:
    return np.array(values, dtype=np.int64)


def run(
    meters: list[Meter], readings: list[list[Reading]], now: int = NOW, limits: VeeLimits = LIMITS
) -> Validated:
    """The readings of each meter, given in time order, as one batch."""
    rows = [(i, *each) for i, of_meter in enumerate(readings) for each in of_meter]
    index, at, value = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return validate_readings(
        meter_index=index,
        read_at_us=at,
        value=value,
        watermarks=MeterWatermarks(
            last_at_us=_column([each.last[0] for each in meters]),
            last_value=_column([each.last[1] for each in meters]),
            opened_at_us=_column([each.opened[0] for each in meters]),
            opened_value=_column([each.opened[1] for each in meters]),
            closed_at_us=_column([each.closed_at for each in meters]),
            register_modulus=_column([each.modulus for each in meters]),
            wh_per_count=_column([each.wh_per_count for each in meters]),
            max_power_w=_column([each.max_power_w for each in meters]),
            period_us=_column([each.period_us for each in meters]),
            ahead_uj=_column([each.ahead_uj for each in meters]),
        ),
        now_us=now,
        limits=limits,
    )


def follow(meters: list[Meter], result: Validated) -> None:
    """The meters as they stand after a batch."""
    for at, meter in enumerate(meters):
        meter.last = (int(result.last_at_us[at]), int(result.last_value[at]))
        meter.ahead_uj = int(result.ahead_uj[at])


METERS = st.builds(
    Meter,
    closed_at=st.sampled_from((OPEN_ENDED_US, OPENED + 20 * PERIOD)),
    modulus=st.sampled_from((0, 1_000)),
    wh_per_count=st.sampled_from((1, 10, 1_000, 10**9)),
    max_power_w=st.sampled_from((0, 4_000, 20_000, 10**10)),
    ahead_uj=st.sampled_from((0, 0, 10**9, 10**11)),
    period_us=st.sampled_from((0, PERIOD)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Reading]:
    """A meter's readings in order: mostly good steps, sprinkled with every kind of fault."""
    at, value = OPENED, 500
    readings: list[Reading] = []
    for _ in range(draw(st.integers(0, 12))):
        fault = draw(st.integers(0, 12))
        if fault < 6:
            at += PERIOD * draw(st.sampled_from((1, 1, 1, 3)))
            value = (value + draw(st.integers(0, 100))) % 1_000
            readings.append((at, value))
        elif fault < 8 and readings:
            readings.append(draw(st.sampled_from(readings)))
        elif fault == 12:
            at += draw(st.sampled_from((1, SECOND - 1, SECOND, SECOND + 1, 2 * SECOND - 1)))
            value = (value + draw(st.integers(0, 7))) % 1_000
            readings.append((at, value))
        else:
            odd_at = draw(
                st.sampled_from((at, OPENED, OPENED - 1, NOW + 121 * SECOND, at - 7, at + SECOND))
            )
            odd_value = draw(st.sampled_from((value, value + 1, 0, -1, 999, 1_000, 10**15)))
            readings.append((odd_at, odd_value))
    return sorted(readings, key=lambda each: each[0])


@settings(max_examples=cases(400), deadline=None)
@given(st.lists(st.tuples(METERS, histories()), min_size=1, max_size=4), st.integers(1, 5))
def test_verdicts_equal_the_reference_wherever_batches_are_cut(
    cases: list[tuple[Meter, list[Reading]]], size: int
) -> None:
    meters = [meter for meter, _ in cases]
    reference = [replace(meter) for meter in meters]
    expected = [
        [judge(meter, each) for each in readings]
        for meter, (_, readings) in zip(reference, cases, strict=True)
    ]
    for step in (10**6, size):
        now_at = [replace(meter) for meter in meters]
        found: list[list[object]] = [[] for _ in cases]
        for begin in range(0, 13, step):
            batch = [readings[begin : begin + step] for _, readings in cases]
            result = run(now_at, batch)
            row = 0
            for of_meter, collected in zip(batch, found, strict=True):
                for _ in of_meter:
                    columns = (
                        result.start_at_us,
                        result.start_value,
                        result.energy_wh,
                        result.rolled,
                        result.jumps_gap,
                    )
                    values = tuple(each[row].item() for each in columns)
                    collected.append((Verdict(result.verdict[row]), values))
                    row += 1
            follow(now_at, result)
        assert found == expected
        assert now_at == reference


@settings(max_examples=cases(100), deadline=None)
@given(st.lists(st.tuples(METERS, histories()), min_size=1, max_size=3))
def test_accepted_energy_is_the_register_difference(
    cases: list[tuple[Meter, list[Reading]]],
) -> None:
    result = run([meter for meter, _ in cases], [readings for _, readings in cases])
    row = 0
    for meter, readings in cases:
        mine = slice(row, row + len(readings))
        row += len(readings)
        rolled = int(result.rolled[mine].sum()) * meter.modulus
        index = cases.index((meter, readings))
        counts = int(result.last_value[index]) - 500 + rolled
        assert int(result.energy_wh[mine].sum()) == counts * meter.wh_per_count


@pytest.mark.parametrize(
    ("reading", "verdict"),
    [
        ((OPENED + PERIOD, 510), Verdict.ACCEPTED),
        ((OPENED, 500), Verdict.DUPLICATE),
        ((OPENED, 501), Verdict.CONFLICT),
        ((OPENED + PERIOD, 499), Verdict.BACKWARDS),
        ((OPENED + PERIOD, 999), Verdict.IMPLAUSIBLE),
        ((OPENED + PERIOD, 1_000), Verdict.IMPLAUSIBLE),
        ((NOW + 121 * SECOND, 510), Verdict.FUTURE),
        ((NOW + 120 * SECOND, 510), Verdict.ACCEPTED),
        ((OPENED - 1, 500), Verdict.BEFORE_OPENING),
        ((OPENED + SECOND - 1, 500), Verdict.TOO_CLOSE),
        ((OPENED + SECOND, 500), Verdict.ACCEPTED),
        ((OPENED + PERIOD, -1), Verdict.NEGATIVE),
    ],
)
def test_each_rule_has_its_verdict(reading: Reading, verdict: Verdict) -> None:
    assert run([Meter()], [[reading]]).verdict.tolist() == [verdict]


def test_a_closing_reading_belongs_to_the_assignment_that_it_closes() -> None:
    meter = Meter(closed_at=OPENED + PERIOD)
    readings = [(OPENED + PERIOD, 510), (OPENED + PERIOD + 1, 510)]
    verdicts = run([meter], [readings]).verdict.tolist()
    assert verdicts == [Verdict.ACCEPTED, Verdict.AFTER_CLOSING]


def test_a_reading_before_the_watermark_is_a_backfill_and_moves_nothing() -> None:
    meter = Meter(last=(OPENED + 4 * PERIOD, 560))
    result = run([meter], [[(OPENED + PERIOD, 510), (OPENED + 5 * PERIOD, 570)]])
    assert result.verdict.tolist() == [Verdict.BACKFILL, Verdict.ACCEPTED]
    assert result.energy_wh.tolist() == [0, 100]
    assert result.start_at_us.tolist() == [0, OPENED + 4 * PERIOD]


def test_the_opening_reading_is_known_after_the_watermark_has_moved_on() -> None:
    meter = Meter(last=(OPENED + 4 * PERIOD, 560))
    assert run([meter], [[(OPENED, 500)]]).verdict.tolist() == [Verdict.DUPLICATE]
    assert run([meter], [[(OPENED, 560)]]).verdict.tolist() == [Verdict.CONFLICT]


def test_a_held_reading_does_not_spoil_the_good_one_after_it() -> None:
    readings = [(OPENED + PERIOD, 3), (OPENED + 2 * PERIOD, 520), (OPENED + 3 * PERIOD, 530)]
    result = run([Meter()], [readings])
    assert result.verdict.tolist() == [Verdict.BACKWARDS, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert result.energy_wh.tolist() == [0, 200, 100]


def test_a_rollover_is_believed_only_when_the_meter_can_have_counted_that_far() -> None:
    full = Meter(last=(OPENED, 995), opened=(OPENED, 995))
    assert run([full], [[(OPENED + PERIOD, 4)]]).energy_wh.tolist() == [90]
    assert run([full], [[(OPENED + PERIOD, 4)]]).rolled.tolist() == [True]
    # 4 kW make 100 counts of 10 Wh in the quarter-hour and the second that instants may be off, and
    # one is granted for rounding.
    assert run([full], [[(OPENED + PERIOD, 96)]]).energy_wh.tolist() == [1010]
    assert run([full], [[(OPENED + PERIOD, 97)]]).verdict.tolist() == [Verdict.BACKWARDS]


def test_readings_a_microsecond_apart_charge_no_more_than_one_reading_of_that_time() -> None:
    """3 999 of them with 7 Wh each would be 28 kWh in 4 ms."""
    meter = Meter(last=(OPENED, 0), modulus=0, wh_per_count=1, max_power_w=25_000)
    slices = [(OPENED + at, 7 * at) for at in range(1, 4_000)]
    assert set(run([meter], [slices]).verdict.tolist()) == {Verdict.TOO_CLOSE}
    whole = run([meter], [[(OPENED + 4_000, 28_000)]])
    assert not whole.accepted.any()


@settings(max_examples=cases(40), deadline=None)
@given(
    st.sampled_from((1, 10, 1_000, 10**9)), st.sampled_from((230, 25_000, 10**6 + 7)),
    st.integers(0, 2**32), st.sampled_from((2, 60, 900)), st.sampled_from((1, 7, 10**6)),
    st.sampled_from((None, 1, SECOND)),
)  # fmt: skip
def test_a_load_at_full_power_is_never_held_whatever_a_meter_does_to_its_instants(
    wh_per_count: int, power_w: int, seed: int, period_s: int, batch: int, cut: int | None
) -> None:
    """Registers are cut off to whole counts, and instants to whole seconds or by anything up to one."""
    drawn = np.random.default_rng(seed)
    at = OPENED + np.cumsum(drawn.integers(period_s * SECOND, 2 * period_s * SECOND, 100))
    off = drawn.integers(0, SECOND, at.size, endpoint=True) if cut is None else at % cut
    start, count_uj = int(drawn.integers(0, 2**62)), wh_per_count * 3_600 * SECOND
    value = [(start % count_uj + power_w * int(each)) // count_uj for each in at - OPENED]
    meter = Meter(
        (OPENED, 0), (OPENED, 0), modulus=0, wh_per_count=wh_per_count, max_power_w=power_w
    )
    # Of two that are told the wrong way round the later is another matter.
    told = np.maximum.accumulate(at - off)
    readings = [
        (now, said)
        for before, now, said in zip([OPENED, *told], told.tolist(), value, strict=False)
        if now - before >= LIMITS.least_gap_us
    ]
    for begin in range(0, len(readings), batch):
        some = readings[begin : begin + batch]
        result = run([meter], [some], now=int(at[-1]) + SECOND)
        assert result.accepted.all()
        follow([meter], result)


@settings(max_examples=cases(60), deadline=None)
@given(
    st.lists(st.tuples(st.integers(100, 3 * SECOND), st.integers(0, 30)), min_size=1, max_size=80),
    st.sampled_from((1, 10, 10**9)), st.sampled_from((0, 4_000, 25_000, 10**10)), st.integers(1, 80),
)  # fmt: skip
def test_time_cut_into_slices_gives_one_count_and_one_second_of_full_power_in_all(
    slices: list[tuple[int, int]], wh_per_count: int, power_w: int, batch: int
) -> None:
    meter = Meter(
        (OPENED, 0), (OPENED, 0), modulus=0, wh_per_count=wh_per_count, max_power_w=power_w
    )
    ends: list[tuple[int, int]] = [(OPENED, 0)]
    tried = list(slices)
    while tried:
        some, tried = tried[:batch], tried[batch:]
        at, value, readings = *meter.last, []
        for step, counts in some:
            at, value = at + step, value + counts
            readings.append((at, value))
        result = run([meter], [readings], limits=VeeLimits())
        ends += [each for each, ok in zip(readings, result.accepted, strict=True) if ok]
        follow([meter], result)
    for first, (from_us, from_value) in enumerate(ends):
        for until_us, until_value in ends[first + 1 :]:
            most_uj = power_w * (until_us - from_us + SECOND)
            assert (until_value - from_value - 1) * wh_per_count * 3_600 * SECOND <= most_uj


def test_four_thousand_slices_of_a_bundle_charge_one_count_and_one_second() -> None:
    meter = Meter((OPENED, 0), (OPENED, 0), modulus=0, wh_per_count=1, max_power_w=25_000)
    slices = [(OPENED + 100 * n, n) for n in range(1, 4_001)]
    result = run([meter], [slices], limits=VeeLimits())
    # 25 kW make 6.9 Wh in a second. Then the register says what no meter can have counted.
    assert result.energy_wh.sum() == result.last_value[0] == 7
    assert set(result.verdict.tolist()) == {Verdict.ACCEPTED, Verdict.IMPLAUSIBLE}


def test_a_person_may_read_a_meter_right_after_it_has_spoken() -> None:
    meter = Meter()
    assert run([meter], [[(OPENED + 1, 500)]], limits=VeeLimits(least_gap_us=1)).accepted.all()


def test_a_silence_of_centuries_does_not_overflow_what_is_plausible() -> None:
    meter = Meter(modulus=0, max_power_w=10**10, wh_per_count=1)
    late = OPENED + 200 * 366 * 86_400 * SECOND
    result = run([meter], [[(late, 10**14)]], now=late)
    assert result.verdict.tolist() == [Verdict.ACCEPTED]
    assert run([meter], [[(late, 10**15)]], now=late).verdict.tolist() == [Verdict.IMPLAUSIBLE]


def test_readings_out_of_order_and_absurd_meters_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        run([Meter()], [[(OPENED + 2, 500), (OPENED + 1, 500)]])
    with pytest.raises(ValueError, match="wh_per_count"):
        run([Meter(wh_per_count=0)], [[]])


def test_an_empty_batch_moves_no_watermark() -> None:
    result = run([Meter()], [[]])
    assert (result.verdict.size, result.last_at_us.tolist()) == (0, [OPENED])


def test_names_and_codes_are_stable() -> None:
    assert {verdict.value: name for verdict, name in VERDICT_NAMES.items()} == {
        0: "mdm.vee.accepted",
        1: "mdm.vee.duplicate",
        2: "mdm.vee.backfill",
        3: "mdm.vee.conflict",
        4: "mdm.vee.backwards",
        5: "mdm.vee.implausible",
        6: "mdm.vee.future",
        7: "mdm.vee.before_opening",
        8: "mdm.vee.after_closing",
        9: "mdm.vee.negative",
        10: "mdm.vee.unpriced",
        11: "mdm.vee.archived",
        12: "mdm.vee.too_close",
        13: "mdm.vee.worn",
    }
    assert {verdict.value for verdict in HELD_VERDICTS} == {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
