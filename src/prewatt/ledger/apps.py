"""Registers the `ledger` package with Django."""

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.ledger"
    label = "ledger"
    default_auto_field = "django.db.models.BigAutoField"
