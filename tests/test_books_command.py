"""`prewatt books` finds what somebody changed past the program, and says so in words."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import at, pay, place, send

from prewatt import books_command
from prewatt.runtime import embedded_postgres


def look(dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str = "json") -> int:
    monkeypatch.setenv("PREWATT_DSN", dsn)
    # The tests' server is fast and forgetful; that is not what is looked at here.
    monkeypatch.setattr(embedded_postgres, "check_durable", lambda _dsn: None)
    return books_command.run(Namespace(state_dir=tmp_path, format=form))


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
