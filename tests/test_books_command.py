"""`prewatt books` finds what somebody changed past the program, and says so in words."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import at, pay, place, post, send

from prewatt import books_command
from prewatt.cli import main
from prewatt.runtime import embedded_postgres


def look(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str = "json", hashes: int = 100
) -> int:
    monkeypatch.setenv("PREWATT_DSN", dsn)
    # The tests' server is fast and forgetful; that is not what is looked at here.
    monkeypatch.setattr(embedded_postgres, "check_durable", lambda _dsn: None)
    return books_command.run(Namespace(state_dir=tmp_path, format=form, hashes=hashes))


@pytest.mark.parametrize("login", ["owner", "witness"])
def test_books_that_hold_and_books_that_do_not(
    database: str,
    login: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = place()
    send(here, [("M-101", at(1), 2_000)])
    pay(here, "one")
    dsn = database if login == "owner" else role_dsn(database, login)
    assert look(dsn, monkeypatch, tmp_path) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "breaches": []}
    account = here.accounts["1001"]
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            "UPDATE account_state SET posted = posted + 1 WHERE account_id = %s", [account]
        )
    assert look(dsn, monkeypatch, tmp_path) == 1
    breaches = json.loads(capsys.readouterr().out)["breaches"]
    assert breaches[0] == f"account {account}: posted is not the sum of its transfers"
    assert len(breaches) == 2 and "are not the same" in breaches[1]
    assert look(dsn, monkeypatch, tmp_path, "text") == 1
    assert "posted is not the sum" in capsys.readouterr().err


#: By version of the hash: how a posting of it is left, and what its hash is made of.
_SECOND = """UPDATE posting p SET hash_version = 2, interval_hash = sha256(convert_to((
    SELECT string_agg(concat_ws('|', 'v2', meter_id, register_code,
               (extract(epoch FROM start_at) * 1000000)::bigint, revision, segment, interval_no,
               (extract(epoch FROM from_at) * 1000000)::bigint,
               (extract(epoch FROM to_at) * 1000000)::bigint, start_value_wh, end_value_wh, multiplier,
               energy_wh, quality, tariff_version_id, band, step, price_nano, charge_energy,
               charge_standing, charge_tax, charge_fee, charge_demand, charge_subsidy), chr(10)
               ORDER BY interval_no)
    FROM interval i WHERE i.account_id = p.account_id AND i.interval_no > p.interval_no_from
      AND i.interval_no <= p.interval_no_to), 'UTF8'))"""


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "change", ["price_nano = 1", "quality = 3", "band = 7", "step = 5", "tariff_version_id = 9"]
)
def test_whatever_is_changed_of_a_posted_interval_is_noticed(
    database: str, version: int, change: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Price, band and quality are in no sum: an owner who makes a bill look right changes those."""
    here = place()
    send(here, [("M-101", at(1), 2_000), ("M-102", at(1), 3_000)])
    post(here)
    witness, account = role_dsn(database, "witness"), here.accounts["1001"]
    with psycopg.connect(database, autocommit=True) as owner:
        if version == 2:
            owner.execute(_SECOND)
        assert look(witness, monkeypatch, tmp_path) == 0
        capsys.readouterr()
        owner.execute(
            f"UPDATE interval SET {change} WHERE interval_no = 1 AND account_id = %s", [account]
        )
    assert look(witness, monkeypatch, tmp_path, hashes=0) == 0, "nothing else notices it"
    capsys.readouterr()
    assert look(witness, monkeypatch, tmp_path) == 1
    breach = f"account {account} posting 1: its intervals do not make its hash"
    assert json.loads(capsys.readouterr().out)["breaches"] == [breach]


def test_a_sample_is_a_whole_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("101", "-1", "1.5", "all"):
        with pytest.raises(SystemExit):
            main(["books", "--hashes", wrong])
        assert "whole number from 0 to 100" in capsys.readouterr().err
