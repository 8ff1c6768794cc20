"""One way of logging for every process: to standard error, in lines for people or as JSON.

`PREWATT_LOG=json` gives one object a line, with `time` (UTC), `level`, `logger`, `process`, `message`,
whatever the call added, and `exc_info` where there is a traceback.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Final

from pythonjsonlogger.json import JsonFormatter

from prewatt.telemetry.metrics import ERRORS

FORMAT_VARIABLE: Final = "PREWATT_LOG"

_LINE: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_NAMES: Final = {"asctime": "time", "levelname": "level", "name": "logger"}
#: A password in a DSN, as `password=…` or in an address; drivers like to quote what they were given.
#: And what lets somebody in, as it stands in a request: a session, a form's token, a program's key.
_SECRET: Final = re.compile(
    r"(password\s*=\s*)('[^']*'|[^\s'\"]+)|(://[^\s:/@]+:)[^\s@]+(?=@)"
    r"|((?:prewatt_\w+|csrfmiddlewaretoken)=|\bBearer\s+|\bpwk_)[\w.:~+/=-]+",
    re.I,
)
#: Variables of the environment whose values are secrets, separated by commas where there are several.
_SECRET_VARIABLES: Final = (
    "PREWATT_SECRET_KEY", "PREWATT_FACTOR_KEYS", "PREWATT_KEY_STORE_KEYS", "PREWATT_SMTP_PASSWORD",
)  # fmt: skip
#: What is shorter is no secret, and would blot out words.
_SECRET_MIN: Final = 6
#: Whatever could end a line, or move a terminal's cursor.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(process: str, *, form: str | None = None) -> None:
    """Send this process's log lines to standard error; `form` is `text` or `json`.

    By default the environment says which. Raises ValueError for a form that there is not.
    """
    chosen = form or os.environ.get(FORMAT_VARIABLE, "text")
    if chosen not in ("text", "json"):
        raise ValueError(f"{FORMAT_VARIABLE} is text or json, not {chosen!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_Json(process) if chosen == "json" else _Text(_LINE))
    handler.addFilter(_count_errors)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def without_secrets(text: str) -> str:
    """The text without passwords of addresses, sessions, keys, and this process's own secrets in it."""
    for name in _SECRET_VARIABLES:
        for value in os.environ.get(name, "").split(","):
            if len(value) >= _SECRET_MIN:
                text = text.replace(value, "***")
    return _SECRET.sub(lambda found: f"{found[1] or found[3] or found[4]}***", text)


def _count_errors(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.ERROR:
        ERRORS.labels(record.name.partition(".")[0] + _second(record.name)).inc()
    return True


def _second(name: str) -> str:
    """The package of a logger of ours, so that a label has few values."""
    parts = name.split(".")
    return f".{parts[1]}" if parts[0] == "prewatt" and len(parts) > 1 else ""


class _Text(logging.Formatter):
    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's name
        # A path or a name with an end of line in it is not to look like another line of ours.
        record.message = _shown(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        # The lines of a traceback are drawn in, for the same reason.
        lines = without_secrets(super().format(record)).split("\n")
        return "\n  ".join(map(_shown, lines))


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _Json(JsonFormatter):
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)

    def __init__(self, process: str) -> None:
        super().__init__(
            _FIELDS,
            rename_fields=_NAMES,
            static_fields={"process": process},
            json_ensure_ascii=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
