"""Starts the program's processes, restarts those that crash, and stops them all, in order.

Each child has a process group and a log file of its own. Nothing is left behind: an orderly end
stops the groups last-started first, and if the supervisor itself is killed the kernel ends the
children (Linux).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prewatt.runtime.children import die_with_parent
from prewatt.runtime.readiness import READY_VARIABLE
from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

_log = logging.getLogger(__name__)

_BACK_OFF_FIRST_S = 0.2
_BACK_OFF_MAX_S = 10.0
_HEALTHY_AFTER_S = 30.0
_LOG_BYTES_MAX = 10_000_000
_POLL_S = 0.05


def prewatt_command(*arguments: str) -> list[str]:
    """Return the command line that runs `prewatt ARGUMENTS` in this very environment."""
    return [sys.executable, "-P", "-m", "prewatt", *arguments]


class ChildFailedError(CannotRunError):
    """A child that must not fail ended before it was ready; the message ends with its log."""


@dataclass(slots=True)
class _Child:
    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    restart: bool
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    back_off_s: float = _BACK_OFF_FIRST_S
    restarts: int = field(default=0)
    ready: bool = False
    ready_pipe: int | None = None

    def listen(self) -> int:
        """Make the pipe on which the next process says that it is ready; returns its other end."""
        self.ready = False
        self.hang_up()
        self.ready_pipe, other_end = os.pipe()
        os.set_blocking(self.ready_pipe, False)
        return other_end

    def hang_up(self) -> None:
        """Close our end of the pipe."""
        if self.ready_pipe is not None:
            os.close(self.ready_pipe)
            self.ready_pipe = None


class Supervisor:
    """A set of named child processes. Use it from the main thread of a program that only waits.

    Typical use::

        with Supervisor(state_dir) as supervisor:
            supervisor.start("hes", prewatt_command("hes"), {"PREWATT_DSN": dsn})
            supervisor.run()  # until SIGINT or SIGTERM
    """

    def __init__(self, state_dir: Path, *, stop_timeout_s: float = 5.0) -> None:
        """Keep logs in `state_dir/logs`; a child has `stop_timeout_s` to end before it is killed."""
        self._logs = state_dir / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._stop_timeout_s = stop_timeout_s
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()

    def __enter__(self) -> Supervisor:
        """Start nothing yet; the block's end stops everything."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, whatever ended the block."""
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        restart: bool = True,
    ) -> None:
        """Start the child `name`; `environ` is added to our own environment.

        `restart` says whether it is started again after it ends by itself. Children stop in the
        reverse of the order in which they were started.
        """
        if name in self._children:
            raise ValueError(f"there is a child named {name!r} already")
        child = _Child(name, list(command), {**os.environ, **(environ or {})}, restart)
        self._children[name] = child
        self._launch(child)

    def log_path(self, name: str) -> Path:
        """Return where the child's output goes."""
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """Return the child's process id, or None while it is down."""
        process = self._children[name].process
        return process.pid if process is not None and process.poll() is None else None

    def restarts(self, name: str) -> int:
        """Return how often the child was started again."""
        return self._children[name].restarts

    def is_ready(self, name: str) -> bool:
        """Whether the child's present process has called `say_ready`."""
        child = self._children[name]
        if not child.ready and child.ready_pipe is not None:
            with contextlib.suppress(BlockingIOError):
                # An ended process closes the pipe without a word.
                child.ready = os.read(child.ready_pipe, 1) == b"\n"
        return child.ready

    def wait_ready(self, name: str, *, timeout_s: float) -> None:
        """Wait until the child calls `say_ready`; raises `ChildFailedError` as `wait_for` does."""
        self.wait_for(name, lambda: self.is_ready(name), timeout_s=timeout_s)

    def kill(self, name: str) -> None:
        """End the child's whole process group with SIGKILL, at once: for drills. It stays down."""
        child = self._children[name]
        if child.process is not None:
            _signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()
            child.process = None

    def stop_one(self, name: str) -> None:
        """Stop one child in order, with its whole process group. It stays down."""
        child = self._children[name]
        child.restart = False
        if child.process is not None:
            self._stop_group(child.process)
            child.process = None

    def start_again(self, name: str, environ: Mapping[str, str] | None = None) -> None:
        """Start a child that is down now, without waiting for its turn.

        `environ` is added to what it was started with, from now on.
        """
        child = self._children[name]
        if self.pid(name) is None:
            child.environ = {**child.environ, **(environ or {})}
            child.restarts += 1
            self._launch(child)

    def check(self) -> None:
        """Look after the children once: start again what crashed and whose time has come."""
        now = time.monotonic()
        for child in self._children.values():
            process = child.process
            if process is not None and process.poll() is not None:
                self._bury(child, process.returncode, now)
            if child.process is None and child.restart and now >= child.due_at:
                child.restarts += 1
                self._launch(child)

    def run(self, on_tick: Callable[[], None] | None = None, *, tick_s: float = 0.5) -> None:
        """Look after the children until `request_stop`, SIGINT or SIGTERM; then return.

        `on_tick` is called about every `tick_s` seconds.
        """
        with self.stopping_on_signals():
            next_tick = time.monotonic()
            while not self._stopping.is_set():
                self.check()
                if on_tick is not None and time.monotonic() >= next_tick:
                    on_tick()
                    next_tick = time.monotonic() + tick_s
                self._stopping.wait(_POLL_S)

    @contextlib.contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into `request_stop` for the length of a block."""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.request_stop()

        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in former:
            signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def request_stop(self) -> None:
        """Make `run` return soon. Safe to call from a signal handler or another thread."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for: long preparations look at it between their parts."""
        return self._stopping.is_set()

    def wait_for(self, name: str, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()` is true, as long as the child `name` runs.

        Raises `ChildFailedError` if it ends first, or is not ready in `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.pid(name) is None:
                raise ChildFailedError(f"{name} ended before it was ready:\n{self._log_end(name)}")
            if time.monotonic() > deadline:
                raise ChildFailedError(
                    f"{name} was not ready within {timeout_s:g} s:\n{self._log_end(name)}"
                )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop all children, the last started first, each with its whole process group."""
        self._stopping.set()
        for child in reversed(self._children.values()):
            child.restart = False
            if child.process is not None:
                self._stop_group(child.process)
                child.process = None
            child.hang_up()

    def _launch(self, child: _Child) -> None:
        path = self.log_path(child.name)
        if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        ready_end = child.listen()
        try:
            with path.open("ab") as log:
                child.process = subprocess.Popen(
                    child.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**child.environ, READY_VARIABLE: str(ready_end)},
                    start_new_session=True,
                    pass_fds=[ready_end],
                    preexec_fn=die_with_parent(signal.SIGTERM),
                )
        finally:
            os.close(ready_end)
        child.started_at = time.monotonic()

    def _bury(self, child: _Child, status: int, now: float) -> None:
        """Note that a child ended, and set when it may start again: later after each early end."""
        assert child.process is not None
        _signal_group(child.process.pid, signal.SIGKILL)
        child.process = None
        if now - child.started_at >= _HEALTHY_AFTER_S:
            child.back_off_s = _BACK_OFF_FIRST_S
        child.due_at = now + child.back_off_s
        child.back_off_s = min(child.back_off_s * 2, _BACK_OFF_MAX_S)
        if child.restart:
            _log.warning(
                "%s ended with status %s; see %s", child.name, status, self.log_path(child.name)
            )

    def _stop_group(self, process: subprocess.Popen[bytes]) -> None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._stop_timeout_s)
        # Also takes along grandchildren that outlived their parent.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def _log_end(self, name: str, lines: int = 20) -> str:
        text = self.log_path(name).read_text("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
