"""Tables of intervals: which instants rows are, and every way in which one is none."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.adapters.loads.interval_csv import LoadFile, LoadFileRefused, read_load
from prewatt.core.civil_time import CivilTimeRefused, utc_datetime

HEAD = "interval_start,wh\n"
TWO = "2018-01-01T00:00,3\n2018-01-01T01:00,5\n"


def read(text: str | bytes, time_zone: str | None = None) -> LoadFile:
    content = text.encode() if isinstance(text, str) else text
    return read_load(io.BytesIO(content), time_zone)


def starts(load: LoadFile) -> list[datetime]:
    return [utc_datetime(at) for at in load.axis.start_at_us.tolist()]


def test_rows_are_intervals_of_the_length_between_the_first_two() -> None:
    load = read(HEAD + "2018-01-01T00:00,3\n2018-01-01T00:15,0\n2018-01-01T00:30,12\n")
    assert load.energy_wh.tolist() == [3, 0, 12]
    assert starts(load)[0] == datetime(2018, 1, 1, tzinfo=UTC)
    assert (load.axis.until_us - load.axis.from_us) == 45 * 60_000_000
    assert load.time_zone == "UTC"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + TWO,
        (HEAD + TWO).replace("\n", "\r\n"),
        "\n" + HEAD + TWO + "\n\n",
        "meter,wh,interval_start\nA,3,2018-01-01 00:00:00\nA,5,2018-01-01 01:00:00\n",
        '"interval_start", wh \n"2018-01-01T00:00"," 3"\n2018-01-01T01:00,5',
        (HEAD + TWO).replace(":00,", ":00-05:00,"),
    ],
)
def test_the_same_load_is_written_in_several_ways(text: str) -> None:
    load = read(text)
    assert load.energy_wh.tolist() == [3, 5]
    assert starts(load) == [datetime(2018, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)]


def test_a_time_zone_reads_what_its_clocks_show() -> None:
    rows = [f"2025-10-26T0{hour}:{minute:02d}" for hour in (1, 2) for minute in (0, 30)]
    rows += ["2025-10-26T02:00", "2025-10-26T02:30", "2025-10-26T03:00"]
    load = read(HEAD + "".join(f"{row},1\n" for row in rows), "Europe/Berlin")
    first = datetime(2025, 10, 25, 23, tzinfo=UTC)
    assert [(at - first).total_seconds() / 1800 for at in starts(load)] == list(range(7))
    assert load.time_zone == "Europe/Berlin"


def test_a_time_zone_takes_times_with_an_offset_as_instants() -> None:
    rows = "2025-03-30T01:00+01:00,1\n2025-03-30T03:00+02:00,1\n2025-03-30T02:00Z,1\n"
    load = read(HEAD + rows, "Europe/Berlin")
    assert starts(load) == [datetime(2025, 3, 30, hour, tzinfo=UTC) for hour in (0, 1, 2)]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "at least two intervals"),
        (HEAD, 1, "at least two intervals"),
        (HEAD + "2018-01-01T00:00,3\n", 2, "at least two intervals"),
        ("when,wh\n" + TWO, 1, "no column 'interval_start'"),
        ("interval_start,kwh\n" + TWO, 1, "no column 'wh'"),
        ("interval_start,wh,wh\n", 1, "more than one column 'wh'"),
        (HEAD + TWO + "2018-01-01T02:00\n", 4, "has 1 fields, and the heading 2"),
        (HEAD + TWO + "2018-01-01T02:00,1,2\n", 4, "has 3 fields, and the heading 2"),
        (HEAD + TWO + "2018-01-01T02:00,\n", 4, "'' is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00,1.5\n", 4, "'1.5' is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00,nan\n", 4, "'nan' is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00,1e3\n", 4, "'1e3' is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00,١\n", 4, "is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00," + "9" * 40 + "\n", 4, "is not a whole number of Wh"),
        (HEAD + TWO + "2018-01-01T02:00,-7\n", 4, "-7 Wh is negative"),
        (HEAD + TWO + "2018-01-01T01:00,5\n", 4, "repeats the interval before it"),
        (HEAD + TWO + "2017-12-31T01:00,5\n", 4, "begins before the interval before it"),
        (HEAD + TWO + "2018-01-01T03:00,5\n", 4, "leaves a gap: it begins 120 minutes after"),
        (HEAD + TWO + "2018-01-01T01:30,5\n", 4, "overlaps: it begins 30 minutes after"),
        (HEAD + "2018-01-01T00:00,3\n2018-01-01T00:00:30,5\n", 3, "part-minutes"),
        (HEAD + "2018-01-01T00:00,3\n2018-02-01T00:00,5\n", 3, "more than a day"),
        (HEAD + "2018-13-01T00:00,3\n", 2, "'2018-13-01T00:00' is not a time"),
        (HEAD + "2018-01-01,3\n", 2, "is not a time"),
        (HEAD + "1066-01-01T00:00,3\n", 2, "is not a time"),
        (HEAD + "01/02/2018 00:00,3\n", 2, "is not a time"),
        (HEAD + "x" * 500 + ",3\n", 2, "…' is not a time"),
        (HEAD + TWO + "2018-01-01T02:00Z,5\n", 4, "mixes times with an offset"),
        (
            HEAD + "2018-01-01T00:00+01:00,3\n2018-01-01T02:00+02:00,5\n",
            3,
            "changes the offset from +01:00 to +02:00",
        ),
        (HEAD + '2018-01-01T00:00,"3\n', 2, "is not CSV"),
        (HEAD.encode() + TWO.encode() + b"\xff\xfe,\n", 4, "is not UTF-8"),
        ((HEAD + TWO).encode("utf-16"), 1, "is not UTF-8"),
        (b"\x00\x01\x02", 1, ""),
    ],
)
def test_what_is_no_load_is_refused_with_its_line(
    text: str | bytes, line: int, reason: str
) -> None:
    with pytest.raises(LoadFileRefused) as refused:
        read(text)
    assert reason in refused.value.reason
    assert refused.value.line == line


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2025-03-30T02:00", "is skipped by the clocks of Europe/Berlin"),
        ("2025-03-30T01:00", "repeats the interval before it"),
        ("2025-03-30T03:00", ""),
    ],
)
def test_a_skipped_hour_is_not_there(row: str, reason: str) -> None:
    text = HEAD + "2025-03-30T00:00,1\n2025-03-30T01:00,1\n" + row + ",1\n"
    if not reason:
        assert len(read(text, "Europe/Berlin").energy_wh) == 3
        return
    with pytest.raises(LoadFileRefused, match=reason):
        read(text, "Europe/Berlin")


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(CivilTimeRefused):
        read(HEAD + TWO, "Europe/Atlantis")


@settings(max_examples=cases(150), deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.booleans())
def test_any_bytes_are_a_load_or_refused(content: bytes, heading: bool) -> None:
    text = (HEAD + TWO).encode() + content if heading else content
    try:
        load = read(text)
    except LoadFileRefused:
        return
    assert load.energy_wh.size >= 2
