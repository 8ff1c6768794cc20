"""Django settings, read from the environment alone.

Every process gets its own database login through ``PREWATT_DSN``: the head-end may not touch
payments and the web may not touch watermarks, and that is decided by PostgreSQL, not by us.
``wiring`` hands each child process the DSN of its role.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

PACKAGE_DIR = Path(__file__).resolve().parent
#: No statement is run so often on one connection.
_NEVER: Final = 2**31 - 1


def _database(dsn: str) -> dict[str, Any]:
    """Turn a libpq DSN into Django's form, keeping every option libpq knows."""
    parts: dict[str, Any] = dict(conninfo_to_dict(dsn))
    name = parts.pop("dbname", "postgres")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        # Nothing is prepared but what asks for it (``runtime/prepared.py``); without a number, not even that.
        "OPTIONS": {"application_name": "prewatt", "prepare_threshold": _NEVER, **parts},
        "CONN_MAX_AGE": 600,
        "ATOMIC_REQUESTS": False,
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


DSN = os.environ.get("PREWATT_DSN", "")
DATABASES = {"default": _database(DSN or "host=/nonexistent dbname=prewatt")}

DEMO = os.environ.get("PREWATT_DEMO") == "1"
#: Where a demonstration keeps the letters to people who sign in; empty everywhere else.
PREWATT_OUTBOX_FOLDER = os.environ.get("PREWATT_OUTBOX_FOLDER", "") if DEMO else ""
SECRET_KEY = os.environ.get("PREWATT_SECRET_KEY", "")
#: The company's own directory: its issuer and what it knows us by (``adapters/identity/open_id.py``), and its name.
PREWATT_OPENID = tuple(
    os.environ.get(f"PREWATT_OPENID_{each}", "") for each in ("ISSUER", "CLIENT", "SECRET")
)
PREWATT_OPENID_NAME = os.environ.get("PREWATT_OPENID_NAME") or urlsplit(PREWATT_OPENID[0]).netloc
#: Keys under which second factors are sealed, newest first (Fernet, separated by commas).
PREWATT_FACTOR_KEYS = [key for key in os.environ.get("PREWATT_FACTOR_KEYS", "").split(",") if key]
#: Where people reach the console, for links in letters; without a slash at its end.
PREWATT_ADDRESS = os.environ.get("PREWATT_ADDRESS", "http://localhost:8000").rstrip("/")
DEBUG = False
ALLOWED_HOSTS = os.environ.get("PREWATT_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "prewatt.access",
    "prewatt.audit",
    "prewatt.approvals",
    "prewatt.api_keys",
    "prewatt.mandates",
    "prewatt.estate",
    "prewatt.devices",
    "prewatt.tamper",
    "prewatt.ledger",
    "prewatt.mdm",
    "prewatt.notify",
    "prewatt.sign_in",
    "prewatt.instructions",
    "prewatt.supply",
    "prewatt.oversight",
    "prewatt.fleet",
    "prewatt.debts",
    "prewatt.billing",
    "prewatt.vending",
    "prewatt.moves",
    "prewatt.web",
]
#: What tariffs take of a recharge: ``vending.ports`` states what it expects of this function.
PREWATT_DUES_AT_RECHARGE = "prewatt.billing.dues.dues_at_recharge"
#: How a company's own directory is asked: ``sign_in.ports`` states what it expects of this module.
PREWATT_COMPANY_DIRECTORY = "prewatt.adapters.identity.open_id"
AUTH_USER_MODEL = "access.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [PACKAGE_DIR / "locale"]

from prewatt.web.settings import *  # noqa: E402, F403  the web's own settings live with the web
