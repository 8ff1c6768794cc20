"""Whatever reads bytes of others, tried with bytes that nobody would send: guided by what they reach in it."""

from __future__ import annotations

import os


def start_django() -> None:
    """Set Django up without a database: the tables of an import are read beside models, and nothing is asked of them."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prewatt.settings")
    django.setup()
