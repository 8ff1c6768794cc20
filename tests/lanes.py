"""Lanes of `./run check`: processes that begin with everything imported and take one test file after another.

To import what tests import takes longer than most of them, so one process does it once and makes the
templates of all databases before. `prewatt.check` sends it the environment of each lane, with a server of
its own; for each it forks. The test files are one deck from which every lane takes the next one when it is
free, and what a lane finds it tells the first process, whose report is that of all.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import pytest
from _pytest.junitxml import LogXML

from prewatt.check import LANES_VARIABLE
from prewatt.runtime.children import die_with_parent
from template import NAME, make_template

_PLACE_BYTES = 4


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests in lanes if `prewatt.check` asks for them; a pytest that a test starts has none."""
    asked = os.environ.pop(LANES_VARIABLE, None)
    if asked is not None:
        config.pluginmanager.register(_Lanes(Connection(int(asked))))


def _make_templates(dsn: str) -> None:
    """Make what each lane's server has from the beginning, and this process keeps in mind for all."""
    # Its module needs Django, which is set up by now.
    from fernmoor import lay_out_once

    make_template(dsn)
    lay_out_once(dsn, NAME)


class _Lanes:
    """The first process: it makes the template, collects, forks, and reports."""

    def __init__(self, check: Connection) -> None:
        self._check = check
        self._children: list[int] = []
        self._done = 0
        _make_templates(check.recv())
        check.send(NAME)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run every test in some lane; a lane that breaks off, or a test of which nothing is heard, fails."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        files = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
        deck = _deck(len(files))
        heard = [self._check]
        while heard:
            for each in multiprocessing.connection.wait(heard):
                assert isinstance(each, Connection)
                try:
                    said = each.recv()
                except EOFError:
                    heard.remove(each)
                    each.close()
                    continue
                if each is self._check:
                    heard.append(self._fork(session, files, deck, said))
                else:
                    self._report(session.config, said)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self._children]
        if any(ends) or self._done != len(session.items):
            session.shouldfail = (
                f"{self._done} of {len(session.items)} tests ended; the lanes ended with {ends}"
            )
            raise session.Failed(session.shouldfail)
        return True

    def _fork(
        self,
        session: pytest.Session,
        files: Sequence[Sequence[pytest.Item]],
        deck: int,
        environ: dict[str, str],
    ) -> Connection:
        """Begin a lane; returns where it tells what it finds."""
        ours, theirs = multiprocessing.connection.Pipe(duplex=False)
        end_with_parent = die_with_parent(signal.SIGTERM)
        pid = os.fork()
        if pid == 0:
            if end_with_parent is not None:
                end_with_parent()
            _run(session, files, deck, theirs, environ)
        self._children.append(pid)
        theirs.close()
        return ours

    def _report(self, config: pytest.Config, said: dict[str, Any]) -> None:
        """Say to every plugin here what a lane found."""
        report = config.hook.pytest_report_from_serializable(config=config, data=said)
        config.hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self._done += 1
            config.hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)


def _deck(files: int) -> int:
    """Return the end of a pipe that holds the number of each file, for one lane to read each."""
    taken, laid = os.pipe()
    os.write(laid, b"".join(number.to_bytes(_PLACE_BYTES) for number in range(files)))
    os.close(laid)
    return taken


def _numbers(deck: int) -> Iterator[int]:
    while number := os.read(deck, _PLACE_BYTES):
        yield int.from_bytes(number)


def _run(
    session: pytest.Session,
    files: Sequence[Sequence[pytest.Item]],
    deck: int,
    first: Connection,
    environ: dict[str, str],
) -> NoReturn:
    """Be a lane until no file is left. What outlives a file, as fixtures of the session do, ends after the last."""
    status = 1
    try:
        _settle(session.config, environ)
        session.config.pluginmanager.register(_Teller(session.config, first))
        for number in _numbers(deck):
            items = files[number]
            for item, following in zip(items, [*items[1:], session], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        session._setupstate.teardown_exact(None)
        status = 0
    except BaseException:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        capture.suspend_global_capture(in_=True)
        traceback.print_exc()
    finally:
        first.close()
        os._exit(status)


def _settle(config: pytest.Config, environ: dict[str, str]) -> None:
    """Part from what belongs to the first process: its folder, its output, its chances and its reports."""
    os.environ.update(environ)
    tempfile.tempdir = None
    random.seed()
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, LogXML):
            config.pluginmanager.unregister(plugin)
    config.pluginmanager.unregister(name="terminalreporter")


class _Teller:
    """What a lane finds is told to the first process."""

    def __init__(self, config: pytest.Config, first: Connection) -> None:
        self._config = config
        self._first = first

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        self._first.send(hook.pytest_report_to_serializable(config=self._config, report=report))
