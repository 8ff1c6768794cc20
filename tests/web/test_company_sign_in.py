"""Signing in by the company's directory: in place of a password, of one person for ever, and of nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from django.test import Client, override_settings

from fernmoor import Fernmoor
from prewatt.web import clock

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def directory() -> Iterator[str]:
    """The issuer of a directory that knows the operator, a stranger, and somebody with the operator's address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oidc_provider_mock import User, run_server_in_thread
    address = {"email": "operator@fernmoor.example", "email_verified": True}
    people = [
        User(sub="pell", claims=address),
        User(sub="heir", claims=address),
        User(sub="ines", claims=address | {"email": "administrator@fernmoor.example"}),
        User(sub="stranger", claims=address | {"email": "somebody@elsewhere.example"}),
    ]
    with run_server_in_thread(user_claims=people) as server:
        issuer = f"http://localhost:{server.server_port}"
        with override_settings(
            PREWATT_OPENID=(issuer, "prewatt", "secret"), PREWATT_OPENID_NAME="Fernmoor"
        ):
            yield issuer


def come_back(client: Client, who: str) -> Any:
    """Follow the link, sign in at the directory as its page does, and bring its answer back."""
    there = client.get("/sign-in/company")
    answered = requests.post(there["Location"], data={"sub": who}, allow_redirects=False, timeout=5)
    back = urlsplit(answered.headers["Location"])
    return client.get(back.path, dict(parse_qsl(back.query)))


def test_the_directory_stands_for_a_password_and_no_more(
    fernmoor: Fernmoor, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC))
    assert b"Sign in with Fernmoor" in Client(headers={"host": "localhost"}).get("/sign-in").content
    pell = Client(headers={"host": "localhost"})
    assert come_back(pell, "pell")["Location"] == "/"
    assert pell.get("/accounts").status_code == 200
    assert "company directory" in pell.get("/me").content.decode()
    # Who decides is asked for a second factor still, and sees nothing before.
    ines = Client(headers={"host": "localhost"})
    assert come_back(ines, "ines")["Location"] == "/sign-in/factor"
    assert ines.get("/accounts").status_code == 302
    # The address went to somebody else at the company; the person here is whom it was bound to first.
    for who in ("heir", "stranger"):
        other = Client(headers={"host": "localhost"})
        assert come_back(other, who)["Location"] == "/sign-in?problem=company"
        assert other.get("/accounts").status_code == 302
    forged = Client(headers={"host": "localhost"})
    assert forged.get("/sign-in/company/back?code=x&state=y")["Location"].endswith("company")


def test_without_a_directory_there_is_no_such_way_in(fernmoor: Fernmoor) -> None:
    client = Client(headers={"host": "localhost"})
    assert client.get("/sign-in/company").status_code == 404
    assert client.get("/sign-in/company/back").status_code == 404
    assert b"/sign-in/company" not in client.get("/sign-in").content
