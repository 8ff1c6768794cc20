"""Every metric of Prewatt, with its meaning; `probes` serves them in Prometheus' text format.

Names follow Prometheus' rules: a unit at the end, `_total` for what only grows. Labels have few
values that the code decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

READINGS: Final = Counter(
    "prewatt_ingest_readings",
    "Readings of the charged register that were judged, by verdict; repeated ones change nothing.",
    ["verdict"],
)
BATCH_SECONDS: Final = Histogram(
    "prewatt_ingest_batch_seconds",
    "From a gathered batch to its commit.",
    buckets=_SECONDS,
)
WAITING_FRAMES: Final = Gauge(
    "prewatt_ingest_waiting_frames", "Frames received and not yet in a batch."
)
REJECTED_FRAMES: Final = Counter(
    "prewatt_rejected_frames", "Messages that nobody could read or place."
)
REFUSED_READINGS: Final = Counter(
    "prewatt_refused_readings",
    "Readings of concentrators' messages that were not taken, by reason; the others were.",
    ["reason"],
)
GAPS: Final = Counter(
    "prewatt_reading_gaps",
    "Gaps in meters' readings: found, asked for, filled, given up.",
    ["step"],
)
REQUESTS: Final = Counter(
    "prewatt_meter_requests",
    "What meters are asked besides their relays: sent, and what came of it.",
    ["kind", "step"],
)
RECHARGES: Final = Counter(
    "prewatt_recharges", "Recharges asked for: posted, repeated or refused.", ["outcome"]
)
TASK_SECONDS: Final = Histogram(
    "prewatt_task_seconds", "One turn of a task of the worker.", ["task"], buckets=_SECONDS
)
TASK_FAILURES: Final = Counter(
    "prewatt_task_failures", "Turns of a task that ended in an unexpected error.", ["task"]
)
HTTP_SECONDS: Final = Histogram(
    "prewatt_http_request_seconds",
    "From a request to its answer, by pattern of the address.",
    ["route", "status"],
    buckets=_SECONDS,
)
ERRORS: Final = Counter(
    "prewatt_logged_errors", "Log lines of level ERROR and above: each is worth a look.", ["logger"]
)


@contextmanager
def timed_task(name: str) -> Iterator[None]:
    """Measure one turn of a task; an error passes through and is counted."""
    began = time.perf_counter()
    try:
        yield
    except Exception:
        TASK_FAILURES.labels(name).inc()
        raise
    finally:
        TASK_SECONDS.labels(name).observe(time.perf_counter() - began)
