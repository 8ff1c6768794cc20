"""The README's two commands work from a fresh checkout, as a new reader would try them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow

#: The broker of each of two starts: the machine's own, then one that keeps nothing for who is away.
#: `PREWATT_DEMO_BROKERS=amqtt,amqtt` begins with that as well.
BROKERS = os.environ.get("PREWATT_DEMO_BROKERS", ",amqtt").split(",")


def _commands_of_the_readme() -> list[str]:
    """Every distinct command line of the README's shell blocks that starts the program."""
    text = (CHECKOUT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console|shell)?\n(.*?)^```", text, re.M | re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    starts = [line.partition("#")[0].strip() for line in lines if line.startswith("./run")]
    return list(dict.fromkeys(starts))


@pytest.fixture(scope="module")
def fresh_checkout() -> Iterator[Path]:
    """A copy of what git tracks, with the state of nobody and the environment yet to be made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=CHECKOUT, capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory(prefix="prewatt-") as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (CHECKOUT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, copy / name)
        subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
        (copy / "state").mkdir(mode=0o755)
        yield copy


def _run(checkout: Path, command: str, *more: str, timeout_s: float) -> str:
    """Run a command of the README in a checkout without anything of this run's own settings."""
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
    prefixes = ("PIP_", "UV_", "HTTP", "http", "ALL_PROXY", "NO_PROXY", "no_proxy")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.startswith(prefixes)
    }
    done = subprocess.run(
        [*command.split(), *more],
        cwd=checkout,
        env=environ | {"PREWATT_STATE_DIR": str(checkout / "state")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_readme_has_two_commands() -> None:
    assert _commands_of_the_readme() == ["./run demo", "./run check"]


def test_the_first_command_shows_the_demo_and_a_later_start_is_quick(fresh_checkout: Path) -> None:
    """What a meter says before the head-end listens is lost with amqtt, and comes again much later."""
    port, kept = _free_port(), fresh_checkout / "state" / "demo.json"
    small = (f"--port={port}", "--units=12", "--days=1", "--until-ready")
    with_broker = [[f"--broker={broker}"] if broker else [] for broker in BROKERS]
    first = _run(fresh_checkout, "./run demo", *small, *with_broker[0], timeout_s=240)
    assert f"http://127.0.0.1:{port}" in first
    assert "readings fed" in first and "ready after" in first
    stopped_us = json.loads(kept.read_text())["last_us"]
    again = _run(fresh_checkout, "./run demo", *small, *with_broker[1], timeout_s=120)
    assert "ready after" in again
    for what in ("Downloading", "readings fed", "do not answer"):
        assert what not in again
    assert json.loads(kept.read_text())["last_us"] > stopped_us
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_second_command_checks(fresh_checkout: Path) -> None:
    output = _run(
        fresh_checkout, "./run check", "--only", "lint", "--only", "imports", timeout_s=240
    )
    assert "all checks passed" in output
