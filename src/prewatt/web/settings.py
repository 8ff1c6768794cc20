"""Settings that only the web process reads: templates, middleware, cookies, static files."""

from __future__ import annotations

from pathlib import Path

_WEB_DIR = Path(__file__).resolve().parent

ROOT_URLCONF = "prewatt.web.urls"
STATIC_URL = "/static/"
