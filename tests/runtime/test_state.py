"""The state directory is nobody else's, and its secrets are read by the program's user only."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from prewatt.runtime.state import (
    StateDirectoryError,
    own_directory,
    role_password,
    secret_text,
    state_directory,
)


def test_the_environment_names_the_state_directory(tmp_path: Path) -> None:
    named = tmp_path / "deep" / "state"
    assert state_directory({"PREWATT_STATE_DIR": str(named)}) == named
    assert named.is_dir()


def test_an_ordinary_user_keeps_state_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner or 4242)
    monkeypatch.setattr("prewatt.runtime.state.own_directory", lambda path: path)
    assert state_directory({}, tmp_path) == tmp_path / ".prewatt"


def test_two_checkouts_of_root_do_not_share_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("prewatt.runtime.state.machine_directory", lambda: tmp_path)
    monkeypatch.setattr("prewatt.runtime.state.own_directory", lambda path: path)
    first = state_directory({}, Path("/root/one"))
    assert first != state_directory({}, Path("/root/two"))
    assert first == state_directory({}, Path("/root/one"))


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateDirectoryError, match="another user"):
        own_directory(tmp_path)


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tmp_path.stat().st_uid == 0:
        os.chown(tmp_path, 4243, 4243)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(StateDirectoryError, match="another user"):
        own_directory(tmp_path)


def test_a_file_in_the_way_is_reported_with_the_variable_that_helps(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateDirectoryError, match="PREWATT_STATE_DIR"):
        own_directory(tmp_path / "file" / "state")


def test_a_role_keeps_its_password_and_shares_it_with_no_other(tmp_path: Path) -> None:
    password = role_password("head_end", tmp_path)
    assert len(password) == 48
    assert role_password("head_end", tmp_path) == password
    assert role_password("keeper", tmp_path) != password
    file = tmp_path / "secrets/roles/head_end"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "../owner", "Robert'); --", "a/b"])
def test_a_name_that_is_no_role_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        role_password(name, tmp_path)


def test_processes_that_ask_at_once_get_the_same_secret(tmp_path: Path) -> None:
    numbers = count()
    with ThreadPoolExecutor(16) as pool:
        answers = set(
            pool.map(lambda _: secret_text(tmp_path / "key", lambda: str(next(numbers))), range(64))
        )
    assert len(answers) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
