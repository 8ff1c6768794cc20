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


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_lets_somebody_in_is_written(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "PREWATT_SECRET_KEY": "signs-the-sessions",
        "PREWATT_FACTOR_KEYS": "first-factor-key=,second-factor-key=",
        "PREWATT_KEY_STORE_KEYS": "seal-of-the-store=",
        "PREWATT_SMTP_PASSWORD": "of-the-mail-server",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    told = [
        *own.values(),
        "Cookie: prewatt_session=s3ss10n; prewatt_csrf=t0k3n",
        "__Host-prewatt_session=s3ss10n",
        "csrfmiddlewaretoken=t0k3n&email=who",
        "{'HTTP_AUTHORIZATION': 'Bearer pwk_k3y.b0dy'}",
        "no key pwk_k3yb0dy of ours",
    ]
    logs.configure("web", form=form)
    for each in told:
        logging.getLogger("prewatt").error("it said: %s", each, extra={"more": each})
        try:
            raise RuntimeError(each)
        except RuntimeError:
            logging.getLogger("prewatt").exception("again")
    written = capsys.readouterr().err
    for secret in (*",".join(own.values()).split(","), "s3ss10n", "t0k3n", "k3y", "b0dy"):
        assert secret not in written, secret
    assert "email=who" in written and written.count("again") == len(told)


def test_no_text_makes_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "2026-11-28 INFO prewatt signed in"
    logs.configure("web", form="text")
    for end in ("\n", "\r", "\x85", "\u2028", "\x1b[2K"):
        logging.getLogger("prewatt").warning("answered 404 to /a%s%s", end, forged)
        try:
            raise ValueError(f"no such thing{end}{forged}")
        except ValueError:
            logging.getLogger("prewatt").exception("broken")
    written = capsys.readouterr().err
    assert forged in written and "\x1b" not in written.replace("\\x1b", "")
    assert not any(line.startswith(forged) for line in written.splitlines())


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
