"""The page is there at once, says how far things are, and survives a change of program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from prewatt.runtime.progress_page import Progress, ProgressPage, read_progress, start_page


def _get(port: int, path: str, language: str = "en") -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Accept-Language": language}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return str(answer.read().decode())


def test_the_page_shows_what_is_done_what_is_under_way_and_what_is_to_come(tmp_path: Path) -> None:
    page = ProgressPage.open(0, tmp_path)
    try:
        Progress(tmp_path).step("history", done=34, total=90, detail="days")
        text = _get(page.port, "/today")
        assert '<li class="done">Start PostgreSQL' in text
        assert '<li class="now">Feed the history<small>34 of 90 days</small>' in text
        assert '<li class="later">Open the doors' in text
        assert "导入历史数据" in _get(page.port, "/", "zh-CN,zh;q=0.9")
        state = json.loads(_get(page.port, "/progress.json"))
        assert (state["step"], state["done"], state["total"]) == ("history", 34, 90)
        assert "34 of 90" in state["html"]
        assert "/progress.json" in _get(page.port, "/progress.js")
    finally:
        page.close()


def test_a_failure_is_shown_and_cannot_write_html(tmp_path: Path) -> None:
    page = ProgressPage.open(0, tmp_path)
    try:
        progress = Progress(tmp_path)
        progress.step("download")
        progress.failed("no <index>")
        assert 'role="alert">no &lt;index>' in _get(page.port, "/")
    finally:
        page.close()


def test_another_program_goes_on_with_the_open_page(tmp_path: Path) -> None:
    page = ProgressPage.open(0, tmp_path)
    Progress(tmp_path).step("postgres")
    environ = {**os.environ, **page.hand_over()}
    program = (
        "import os, sys, pathlib; from prewatt.runtime.progress_page import ProgressPage as P;"
        "p = P.adopt(os.environ, int(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "print('on', flush=True); sys.stdin.read(); p.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(page.port), tmp_path],
        env=environ,
        close_fds=False,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as successor:
        assert successor.stdout is not None
        assert successor.stdout.readline() == "on\n"
        page.close()
        assert "Start PostgreSQL" in _get(page.port, "/")
        assert successor.stdin is not None
        successor.stdin.close()
    with pytest.raises(OSError, match="refused"):
        _get(page.port, "/")


def test_a_taken_port_is_no_reason_to_stop(tmp_path: Path) -> None:
    page = ProgressPage.open(0, tmp_path)
    try:
        assert start_page(page.port, tmp_path, "download") is None
    finally:
        page.close()


def test_a_step_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a step"):
        Progress(tmp_path).step("coffee")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_half_written_state_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path / "progress.json") == {}
