"""Children are started, looked after and stopped, and none of them outlives the supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prewatt.runtime.readiness import READY_VARIABLE, say_ready
from prewatt.runtime.supervisor import ChildFailedError, Supervisor

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    + SLEEPER[2].partition("; ")[2],
]


def _until(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _is_up(supervisor: Supervisor, name: str) -> Callable[[], bool]:
    return lambda: "up" in supervisor.log_path(name).read_text()


def test_a_child_gets_its_environment_and_its_log(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        command = [sys.executable, "-c", "import os; print(os.environ['METER'])"]
        supervisor.start("one", command, {"METER": "42"}, restart=False)
        assert _until(lambda: supervisor.pid("one") is None)
    assert (tmp_path / "logs/one.log").read_text() == "42\n"


def test_a_crashed_child_comes_back_a_little_later_each_time(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("one", SLEEPER)
        waits = []
        for restarts in (1, 2):
            pid = supervisor.pid("one")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            begun = time.monotonic()
            while supervisor.restarts("one") < restarts:
                supervisor.check()
                assert time.monotonic() - begun < 15
            waits.append(time.monotonic() - begun)
        assert waits[0] >= 0.2
        assert waits[1] >= 0.4
        assert supervisor.pid("one") != pid


def test_a_child_that_shall_not_restart_stays_down(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("once", [sys.executable, "-c", ""], restart=False)
        assert _until(lambda: supervisor.pid("once") is None)
        supervisor.check()
        time.sleep(0.3)
        supervisor.check()
        assert supervisor.restarts("once") == 0


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, stop_timeout_s=0.3)
    supervisor.start("stubborn", STUBBORN)
    supervisor.wait_for("stubborn", _is_up(supervisor, "stubborn"), timeout_s=15)
    pid = supervisor.pid("stubborn")
    assert pid is not None
    begun = time.monotonic()
    supervisor.stop()
    assert 0.3 <= time.monotonic() - begun < 5
    assert not _lives(pid)


def test_grandchildren_go_with_their_group(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time;"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid,"
        " flush=True); time.sleep(600)"
    )
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("parent", [sys.executable, "-c", program])
        log = supervisor.log_path("parent")
        assert _until(lambda: log.read_text().endswith("\n"))
        grandchild = int(log.read_text())
        assert _lives(grandchild)
    assert _until(lambda: not _lives(grandchild))


def test_children_stop_in_the_reverse_of_their_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(600)"
    )
    with Supervisor(tmp_path) as supervisor:
        for name in "abc":
            supervisor.start(name, [sys.executable, "-c", program, str(order), name])
            supervisor.wait_for(name, _is_up(supervisor, name), timeout_s=15)
    assert order.read_text() == "cba"


def test_one_that_ends_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("web", [sys.executable, "-c", "import sys; sys.exit('port in use')"])
        with pytest.raises(ChildFailedError, match="port in use"):
            supervisor.wait_for("web", lambda: False, timeout_s=15)


def test_a_signal_stops_everything_and_a_kill_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from prewatt.runtime.supervisor import Supervisor\n"
        "with Supervisor(pathlib.Path(sys.argv[1])) as supervisor:\n"
        "    supervisor.start('one', [sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    print(supervisor.pid('one'), flush=True)\n"
        "    supervisor.run()\n"
        "print('stopped', flush=True)"
    )
    for number, farewell in ((signal.SIGTERM, "stopped\n"), (signal.SIGKILL, "")):
        with subprocess.Popen(
            [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            time.sleep(0.3)
            process.send_signal(number)
            assert process.stdout.read() == farewell
        assert _until(lambda child=child: not _lives(child))


def test_a_child_is_ready_when_it_says_so_and_not_before(tmp_path: Path) -> None:
    program = (
        "import sys, time; from prewatt.runtime.readiness import say_ready\n"
        "print('up', flush=True); sys.stdin = open(sys.argv[1]); sys.stdin.readline()\n"
        "say_ready(); say_ready(); time.sleep(600)"
    )
    os.mkfifo(tmp_path / "go")
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("hes", [sys.executable, "-c", program, str(tmp_path / "go")])
        supervisor.wait_for("hes", _is_up(supervisor, "hes"), timeout_s=15)
        assert not supervisor.is_ready("hes")
        (tmp_path / "go").write_text("\n")
        supervisor.wait_ready("hes", timeout_s=15)
        pid = supervisor.pid("hes")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert _until(lambda: supervisor.pid("hes") is None)
        supervisor.check()
        assert _until(lambda: (supervisor.check(), supervisor.pid("hes"))[1] is not None)
        # The one that took its place has said nothing yet.
        assert not supervisor.is_ready("hes")


def test_a_child_that_ends_without_a_word_was_never_ready(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("web", [sys.executable, "-c", "raise SystemExit('no port')"])
        with pytest.raises(ChildFailedError, match="no port"):
            supervisor.wait_ready("web", timeout_s=15)


def test_without_a_supervisor_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READY_VARIABLE, raising=False)
    say_ready()
    monkeypatch.setenv(READY_VARIABLE, "987654")
    say_ready()
    assert READY_VARIABLE not in os.environ


def test_two_children_of_one_name_are_refused(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("one", SLEEPER)
        with pytest.raises(ValueError, match="already"):
            supervisor.start("one", SLEEPER)


def test_a_killed_child_stays_down_until_it_is_started_again(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("one", STUBBORN, restart=False)
        supervisor.start("two", SLEEPER, restart=False)
        assert _until(_is_up(supervisor, "one"))
        assert _until(_is_up(supervisor, "two"))
        first = supervisor.pid("one")
        assert first is not None
        supervisor.kill("one")
        supervisor.check()
        assert not _lives(first)
        assert supervisor.pid("one") is None
        supervisor.start_again("one")
        supervisor.start_again("one")
        assert supervisor.pid("one") not in {None, first}
        assert supervisor.restarts("one") == 1
        supervisor.stop_one("two")
        supervisor.check()
        assert supervisor.pid("two") is None
        assert supervisor.pid("one") is not None
