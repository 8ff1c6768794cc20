"""What a process writes down: one object a line, errors counted, no password ever."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from prewatt.telemetry import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(written: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in written.splitlines()]


def test_json_is_one_object_a_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("hes", form="json")
    log = logging.getLogger("prewatt.hes.ingest")
    log.info("read %d\nlines of 电表", 2, extra={"batch": 7})
    try:
        raise ValueError("no such meter")
    except ValueError:
        log.exception("cannot apply")
    said, failed = lines(capsys.readouterr().err)
    assert said["message"] == "read 2\nlines of 电表"
    assert (said["level"], said["logger"], said["process"]) == (
        "INFO",
        "prewatt.hes.ingest",
        "hes",
    )
    assert said["batch"] == 7
    assert said["time"].endswith("Z") and "T" in said["time"]
    assert "ValueError: no such meter" in failed["exc_info"]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "told",
    [
        "connection to postgresql://web:hunter2@127.0.0.1/prewatt failed",
        "bad dsn: host=/run user=web password=hunter2 dbname=prewatt",
        "bad dsn: password='hunter2' user=web",
        "bad dsn: PASSWORD = hunter2",
    ],
)
def test_no_password_is_written(form: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("web", form=form)
    logging.getLogger("prewatt").error("it said: %s", told)
    try:
        raise RuntimeError(told)
    except RuntimeError:
        logging.getLogger("prewatt").exception("again")
    written = capsys.readouterr().err
    assert "again" in written
    assert "hunter2" not in written


def test_errors_are_counted_by_package() -> None:
    logs.configure("worker")

    def counted(name: str) -> float:
        return REGISTRY.get_sample_value("prewatt_logged_errors_total", {"logger": name}) or 0.0

    before = counted("prewatt.billing"), counted("psycopg")
    logging.getLogger("prewatt.billing.posting").error("a")
    logging.getLogger("prewatt.billing.rerating").critical("b")
    logging.getLogger("prewatt.billing.rerating").warning("not one")
    logging.getLogger("psycopg.pool").error("c")
    assert (counted("prewatt.billing"), counted("psycopg")) == (before[0] + 2, before[1] + 1)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="text or json"):
        logs.configure("web", form="xml")
