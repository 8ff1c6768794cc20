"""`prewatt fuzz`: try readers of foreign bytes with bytes that nobody would send, guided by what they reach.

Each target runs by itself under libFuzzer, which begins with the vectors of the tests and the words in them, and keeps what
reached something new in a folder of its own, from one run to the next. An input that crashes, hangs or takes too much is written to a file, with
the command that repeats it.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

from prewatt.fuzz import start_django
from prewatt.runtime.state import CannotRunError

_INPUT_SECONDS_MAX: Final = 5
_MEMORY_MIB_MAX: Final = 1_024
_FOUND: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the target, how long, and the way to repeat a finding."""
    parser.add_argument("target", nargs="?", help="one of them (default: all, one after the other)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path(tempfile.gettempdir()) / "prewatt-fuzz",
        metavar="DIR",
        help="where what was reached is kept, and what was found (default: %(default)s)",
    )
    parser.add_argument(
        "--repeat", type=Path, metavar="FILE", help="try this input once, without libFuzzer"
    )
    parser.add_argument("--list", action="store_true", help="say what the targets are, and end")


def run(arguments: argparse.Namespace) -> int:
    """Fuzz; returns 1 where something was found."""
    start_django()
    from prewatt.fuzz.targets import TARGETS

    if arguments.list:
        print("\n".join(f"{name:<12}{each.what}" for name, each in TARGETS.items()))
        return 0
    if arguments.target is not None and arguments.target not in TARGETS:
        raise CannotRunError(f"no target {arguments.target!r}: {', '.join(TARGETS)}")
    if arguments.repeat is not None:
        return _repeat(arguments.target, arguments.repeat)
    if importlib.util.find_spec("atheris") is None:
        raise CannotRunError("atheris is not installed: it is one of the project's tools, on Linux")
    names = list(TARGETS) if arguments.target is None else [arguments.target]
    found = [name for name in names if not _fuzz(name, arguments.seconds, arguments.corpus)]
    print(
        f"{len(names)} targets, findings in {len(found)}{': ' if found else ''}{', '.join(found)}"
    )
    return _FOUND if found else 0


def _fuzz(name: str, seconds: int, corpus: Path) -> bool:
    """One target for so long; returns whether it held."""
    from prewatt.fuzz.targets import TARGETS
    from prewatt.fuzz.vectors import vectors_of, words_of

    kept, crashes = corpus / name, corpus / "found"
    kept.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds, words = Path(folder) / "seeds", Path(folder) / "words"
        seeds.mkdir()
        for number, (_, data) in enumerate(vectors_of(name)):
            (seeds / f"vector-{number}").write_bytes(data)
        words.write_text("".join(f'"{each}"\n' for each in words_of(name)))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "prewatt.fuzz.child", name, str(kept), str(seeds)),
                f"-dict={words}",
                f"-max_total_time={seconds}",
                f"-max_len={TARGETS[name].bytes_max}",
                f"-timeout={_INPUT_SECONDS_MAX}",
                f"-rss_limit_mb={_MEMORY_MIB_MAX}",
                f"-artifact_prefix={crashes / name}-",
                "-print_final_stats=1",
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    print(f"{name}: {_summary(done.stderr)}", flush=True)
    if done.returncode == 0:
        return True
    print(_story(done.stdout + done.stderr))
    newest = max(crashes.glob(f"{name}-*"), key=lambda each: each.stat().st_mtime, default=None)
    if newest is not None:
        print(f"  {newest.read_bytes().hex()}\n  ./run fuzz {name} --repeat {newest}", flush=True)
    return False


def _summary(said: str) -> str:
    """How many inputs were tried, and how much was reached."""
    tried = next((line.split()[-1] for line in said.splitlines() if "executed_units" in line), "?")
    reached = [line for line in said.splitlines() if " cov: " in line]
    lines = reached[-1].partition(" cov: ")[2].split()[0] if reached else "?"
    return f"{tried} inputs, {lines} places reached"


def _story(said: str) -> str:
    """The end of what was said before libFuzzer's own figures."""
    lines = [line for line in said.splitlines() if not line.startswith(("stat::", "#"))]
    return "\n".join(f"  {line}" for line in lines[-25:])


def _repeat(name: str | None, file: Path) -> int:
    from prewatt.fuzz.targets import attempt

    if name is None:
        raise CannotRunError("say of which target the input is")
    try:
        attempt(name, file.read_bytes())
    except Exception:
        traceback.print_exc()
        return _FOUND
    print("nothing happens")
    return 0
