"""`prewatt bill`: its contract in JSON, its table, and refusals of one line."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.tariffs.urdb_items import FOLDER, PATHS, expected
from prewatt.cli import main
from prewatt.core.tariff import load_tariff
from prewatt.runtime.state import CHECKOUT

HOUSEHOLD = FOLDER / "load-household.csv"
FLAT: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Flat",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"any": {"price": "0.25"}}},
}
PARTS = ["energy", "fixed", "demand", "minimum", "tax"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Where a tariff and a load of two hours are written."""
    tariff, load = tmp_path / "tariff.json", tmp_path / "load.csv"
    tariff.write_text(json.dumps(FLAT))
    load.write_text("interval_start,wh\n2025-06-01T00:00,1500\n2025-06-01T01:00,500\n")
    return tariff, load


def bill(
    capsys: pytest.CaptureFixture[str], tariff: Path, load: Path, *more: str
) -> dict[str, Any]:
    """The answer of a bill that is made."""
    arguments = ["bill", "--tariff", str(tariff), "--load", str(load), "--format", "json", *more]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    answer: dict[str, Any] = json.loads(output.out)
    return answer


def refusal(capsys: pytest.CaptureFixture[str], tariff: Path, load: Path, *more: str) -> str:
    """The one line of a bill that is refused."""
    assert main(["bill", "--tariff", str(tariff), "--load", str(load), *more]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.endswith("\n")
    (line,) = output.err.splitlines()
    return line


def test_the_page_shows_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CHECKOUT / "docs" / "bill.md").read_text("utf-8")
    command = re.search(r"^./run bill (--tariff \S+ --load \S+)$", page, re.MULTILINE)
    shown = re.search(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert command is not None and shown is not None
    _, tariff, _, load = command[1].split()
    printed = bill(capsys, CHECKOUT / tariff, CHECKOUT / load)
    assert json.loads(shown[1]) == printed | {"months": printed["months"][:1]}


@pytest.mark.parametrize("path", PATHS[::5], ids=lambda path: path.stem)
def test_a_urdb_item_is_billed_as_pysam_does(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = bill(capsys, path, HOUSEHOLD, "--allocation", "pro-rata")
    theirs = expected()[path.name]
    assert answer["currency"] == "USD"
    for position, month in enumerate(answer["months"]):
        assert month["month"] == f"2018-{position + 1:02d}"
        for name in ("kwh", "energy", "fixed", "minimum"):
            assert float(month[name]) == pytest.approx(theirs[name][position], abs=0.005)
        assert float(month["total"]) == pytest.approx(theirs["bill"][position], abs=0.005)
    assert float(answer["annual"]["total"]) == pytest.approx(theirs["annual"], abs=0.005)


def test_the_answer_has_decimal_strings_that_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    answer = bill(capsys, FOLDER / "pge-e-tou-c.json", HOUSEHOLD, "--allocation", "pro-rata")
    assert list(answer) == ["currency", "months", "annual"]
    names = ["kwh", *PARTS, "total"]
    assert list(answer["annual"]) == names
    for month in answer["months"]:
        assert list(month) == ["month", *names]
        assert all(isinstance(month[name], str) for name in names)
        assert sum(Decimal(month[part]) for part in PARTS) == Decimal(month["total"])
    for name in names:
        year = sum(Decimal(month[name]) for month in answer["months"])
        assert year == Decimal(answer["annual"][name])


def test_steps_are_in_the_order_of_time_unless_said_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    item = FOLDER / "pge-or-rate-7-tou.json"
    plain = bill(capsys, item, HOUSEHOLD)
    assert plain == bill(capsys, item, HOUSEHOLD, "--allocation", "chronological")
    assert plain != bill(capsys, item, HOUSEHOLD, "--allocation", "pro-rata")


def test_a_prewatt_tariff_is_billed_in_the_place_s_time(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    tariff.write_text(json.dumps(FLAT | {"standing": {"per_day": "1"}}))
    load.write_text(
        "interval_start,wh\n"
        + "".join(f"2025-03-30T{hour:02d}:00+00:00,1000\n" for hour in range(23))
    )
    # In Berlin the first hour is 01:00, and the load ends at 01:00 of the next day.
    by_file, in_berlin = (
        bill(capsys, tariff, load, *more)["annual"]["fixed"]
        for more in ((), ("--time-zone", "Europe/Berlin"))
    )
    assert (by_file, in_berlin) == ("1.000000", "1.000000")
    table = load.read_text().replace("+00:00", "")
    load.write_text(table)
    assert "is skipped" in refusal(capsys, tariff, load, "--time-zone", "Europe/Berlin")


def test_holidays_of_a_place_have_their_prices(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    weekdays = ["mon", "tue", "wed", "thu", "fri"]
    energy = {
        "unit": "kWh",
        "bands": {"work": {"price": "1"}, "rest": {"price": "0.1"}},
        "day_classes": {"workday": weekdays, "restday": ["sat", "sun", "holiday"]},
        "schedule": [
            {"days": days, "periods": [{"from": "00:00", "until": "24:00", "band": band}]}
            for days, band in (("workday", "work"), ("restday", "rest"))
        ],
    }
    tariff.write_text(json.dumps(FLAT | {"energy": energy}))
    load.write_text("interval_start,wh\n2025-05-01T00:00,1000\n2025-05-01T01:00,0\n")
    assert bill(capsys, tariff, load)["annual"]["energy"] == "1.000000"
    assert bill(capsys, tariff, load, "--holidays", "DE")["annual"]["energy"] == "0.100000"


def test_a_tax_can_be_left_off(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    tariff.write_text(json.dumps(FLAT | {"taxes": [{"code": "vat", "rate": "20"}]}))
    assert bill(capsys, tariff, load)["annual"]["tax"] == "0.100000"
    assert bill(capsys, tariff, load, "--exempt", "vat")["annual"]["tax"] == "0.000000"
    assert refusal(capsys, tariff, load, "--exempt", "levy").endswith(
        "--exempt: the tariff has no tax 'levy'"
    )


def test_limits_that_need_the_contract_ask_for_it(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    energy = {
        "unit": "kWh",
        "bands": {"any": {"prices": ["0.10", "1"]}},
        "steps": {"window": "month", "limits": ["0.5"], "scale": "members"},
    }
    tariff.write_text(json.dumps(FLAT | {"energy": energy}))
    load_tariff(tariff.read_bytes())
    assert "energy.steps.scale: needs" in refusal(capsys, tariff, load)
    assert bill(capsys, tariff, load, "--members", "2")["annual"]["energy"] == "1.100000"
    assert bill(capsys, tariff, load, "--members", "4")["annual"]["energy"] == "0.200000"
    assert "--members: must be from 1" in refusal(capsys, tariff, load, "--members", "0")


def test_the_table_shows_what_there_is(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    named = FLAT | {"name": "Wohnung 电价", "standing": {"per_day": "0.333333333"}}
    tariff.write_text(json.dumps(named, ensure_ascii=False), encoding="utf-8")
    assert main(["bill", "--tariff", str(tariff), "--load", str(load)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Wohnung 电价 (EUR), steps in the order of time",
        "",
        "month      kwh    energy     fixed     total",
        "2025-06  2.000  0.500000  0.333333  0.833333",
        "all      2.000  0.500000  0.333333  0.833333",
        "",
        "energy of  step    kwh  price    amount",
        "any           1  2.000   0.25  0.500000",
    ]


def test_the_notes_of_an_item_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    item = FOLDER / "fpl-rtr-1.json"
    assert main(["bill", "--tariff", str(item), "--load", str(HOUSEHOLD)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "Note: holidays: holidays are billed as their weekday.",
        "Note: read by the PySAM conventions.",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "document: is not JSON"),
        ("[]", "is neither a Prewatt tariff nor an OpenEI URDB item"),
        ("3", "is neither a Prewatt tariff nor an OpenEI URDB item"),
        ("null", "document: must be an object"),
        ('{"format": "prewatt-tariff/9"}', "document: lacks 'currency'"),
        ('{"energyratestructure": [[{"rate": 1}]], "sell": 3}', "sell: is not a field"),
        ('{"energyratestructure": [[{"rate": 1, "unit": "a\\nb"}]]}', "[0][0].unit: is 'a\\nb'"),
        ('{"items": [1, 2]}', "items: must be a list with exactly one item"),
    ],
)
def test_a_bad_tariff_is_status_2_and_one_line(
    content: str, said: str, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    tariff.write_text(content)
    line = refusal(capsys, tariff, load)
    assert line.startswith(f"prewatt: {tariff}: ")
    assert said in line


def test_a_bad_load_is_status_2_and_one_line_with_the_line(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    load.write_text("interval_start,wh\n2025-06-01T00:00,1\n2025-06-01T01:00,x\x1b[2J\n")
    assert refusal(capsys, tariff, load) == (
        f"prewatt: {load}: line 3: 'x\\x1b[2J' is not a whole number of Wh"
    )
    load.unlink()
    assert refusal(capsys, tariff, load) == f"prewatt: {load}: No such file or directory"


def test_what_cannot_be_asked_of_a_load_is_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tariff, load = files
    for more, said in (
        (("--time-zone", "Europe/Atlantis"), "--time-zone: "),
        (("--holidays", "XX"), "--holidays: no holidays are known for 'XX'"),
    ):
        assert said in refusal(capsys, tariff, load, *more)
    item = FOLDER / "fpl-rtr-1.json"
    assert "--holidays: a URDB item" in refusal(capsys, item, load, "--holidays", "US")
    tariff.write_text(json.dumps(FLAT | {"temporary": {"unit": "hour", "fee": "1"}}))
    assert "temporary: needs the time" in refusal(capsys, tariff, load)
