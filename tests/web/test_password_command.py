"""`prewatt password`: a login's password from standard input or a terminal, and the sessions it ends."""

from __future__ import annotations

import getpass
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.db import ProgrammingError, connection
from django.test import Client
from tests.fernmoor import NOW, PASSWORD, Fernmoor

from prewatt import cli, wiring
from prewatt.access.passwords import PASSWORD_MAX, PASSWORD_MIN, set_password
from prewatt.access.scope import system_actor

ADMIN = "administrator@fernmoor.example"
NEW = "correct horse battery staple"

Owner = Callable[[Fernmoor], Any]
Command = Callable[..., int]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def prewatt_password(
    fernmoor: Fernmoor, as_owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command as `prewatt password` runs it, in this process and on the property's database."""
    monkeypatch.setattr(wiring, "now", lambda: NOW)

    def run(email: str, given: str) -> int:
        monkeypatch.setenv("PREWATT_DSN", fernmoor.dsn)
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with as_owner(fernmoor):
            return cli.main(["password", email])

    return run


def signs_in(password: str) -> bool:
    client = Client(headers={"host": "localhost"})
    return client.post("/sign-in", {"email": ADMIN, "password": password}).status_code == 302


def told(place: Fernmoor, as_owner: Owner) -> list[tuple[Any, ...]]:
    with as_owner(place), connection.cursor() as cursor:
        cursor.execute(
            """SELECT actor, code, property_id, subject, detail::text FROM audit_event
               WHERE code LIKE 'access.password%'"""
        )
        return list(cursor.fetchall())


def test_a_new_password_opens_and_the_old_one_and_its_sessions_do_not(
    fernmoor: Fernmoor, prewatt_password: Command, as_owner: Owner, capsys: Any, sign_in: Any
) -> None:
    thief, clerk = sign_in(fernmoor), Client(headers={"host": "localhost"})
    assert signs_in(PASSWORD)
    desk = {"email": "operator@fernmoor.example", "password": PASSWORD}
    assert clerk.post("/sign-in", desk).status_code == 302
    assert thief.get("/").status_code == 200
    assert prewatt_password(ADMIN.upper(), f"{NEW}\n") == 0
    said = capsys.readouterr()
    assert ADMIN in said.out and NEW not in said.out + said.err
    away = thief.get("/")
    assert away.status_code == 302 and away["Location"].startswith("/sign-in")
    assert clerk.get("/").status_code == 200, "another's session goes on"
    assert not signs_in(PASSWORD)
    assert signs_in(NEW)
    user = fernmoor.users["administrator"]
    assert told(fernmoor, as_owner) == [
        ("system:password", "access.password.reset", fernmoor.property_id, f"user:{user}", "{}")
    ]


@pytest.mark.parametrize(
    ("email", "given", "why"),
    [
        ("nobody@fernmoor.example", NEW, "no login"),
        (ADMIN, "", f"at least {PASSWORD_MIN}"),
        (ADMIN, "eleven_sign\n", f"at least {PASSWORD_MIN}"),
        (ADMIN, "x" * (PASSWORD_MAX + 1), f"at most {PASSWORD_MAX}"),
        (ADMIN, "a tab\tin the middle", "one line"),
        (ADMIN, PASSWORD, "choose another"),
    ],
)
def test_a_refused_password_changes_nothing(
    fernmoor: Fernmoor, prewatt_password: Command, as_owner: Owner, capsys: Any,
    email: str, given: str, why: str,
) -> None:  # fmt: skip
    assert prewatt_password(email, given) == 2
    assert why in capsys.readouterr().err
    assert told(fernmoor, as_owner) == []
    assert signs_in(PASSWORD)


def test_the_same_password_again_and_a_closed_login_are_refused(
    fernmoor: Fernmoor, prewatt_password: Command, as_owner: Owner, capsys: Any
) -> None:
    assert prewatt_password(ADMIN, NEW) == 0
    assert prewatt_password(ADMIN, NEW) == 2
    assert "choose another" in capsys.readouterr().err
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute("UPDATE app_user SET is_active = false WHERE email = %s", [ADMIN])
    assert prewatt_password(ADMIN, f"{NEW} again") == 2
    assert "closed" in capsys.readouterr().err


def test_on_a_terminal_it_is_typed_twice_and_unseen(
    prewatt_password: Command, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(io, "StringIO", _Terminal)
    typed = iter([NEW, f"{NEW}r", NEW, NEW])
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(typed))
    assert prewatt_password(ADMIN, "") == 2
    assert "not the same" in capsys.readouterr().err and not signs_in(NEW)
    assert prewatt_password(ADMIN, "") == 0
    assert signs_in(NEW)


def test_it_takes_no_password_as_an_argument(prewatt_password: Command) -> None:
    with pytest.raises(SystemExit):
        cli.main(["password", ADMIN, NEW])
    with pytest.raises(SystemExit):
        cli.main(["password", ADMIN, "--password", NEW])


def test_the_web_cannot_write_a_password(fernmoor: Fernmoor) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        set_password(actor=system_actor("web"), email=ADMIN, password=NEW, now=NOW)
