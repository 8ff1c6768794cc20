"""`prewatt tariff`: the schema as it is published, and a verdict on a document for a terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import prewatt
from prewatt.cli import main
from prewatt.core.tariff import digest, load_tariff

FOLDER = Path(prewatt.__file__).parent / "data" / "tariffs"
SHANGHAI = FOLDER / "cn-shanghai-residential.json"


def test_the_schema_is_printed_as_it_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "schema"]) == 0
    assert capsys.readouterr().out == (FOLDER / "schema.json").read_text(encoding="utf-8")


def test_a_plan_is_summed_up_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "check", str(SHANGHAI)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "上海居民生活用电（分时、年阶梯） (CNY)"
    assert "every day: 00:00–06:00 valley, 06:00–22:00 peak, 22:00–24:00 valley" in lines
    assert "limits 3120, 4800 kWh" in lines
    assert lines[-1] == f"digest: {digest(load_tariff(SHANGHAI.read_bytes())).hex()}"


def test_the_verdict_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "check", str(SHANGHAI), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tariff = load_tariff(SHANGHAI.read_bytes())
    assert found["digest"] == digest(tariff).hex()
    assert load_tariff(json.dumps(found["tariff"])) == tariff


def test_a_refusal_is_status_2_and_one_line_with_the_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = SHANGHAI.read_text(encoding="utf-8").replace('"0.977"', '"-0.977"')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(faulty.encode())))
    assert main(["tariff", "check", "-"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "energy.bands.peak.prices[2]: must not be negative\n"


def test_a_file_that_is_not_there_is_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["tariff", "check", str(tmp_path / "plan.json")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'plan.json'}: No such file or directory\n"


def test_a_file_is_read_no_further_than_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = tmp_path / "plan.json"
    with endless.open("wb") as file:
        file.truncate(10 * 1024**3)
    assert main(["tariff", "check", str(endless)]) == 2
    assert main(["tariff", "check", "/dev/zero"]) == 2
    assert capsys.readouterr().err.count("more than 1048576 bytes") == 2
