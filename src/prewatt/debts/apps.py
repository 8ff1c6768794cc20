"""Registers the `debts` package with Django."""

from django.apps import AppConfig


class DebtsConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.debts"
    label = "debts"
    default_auto_field = "django.db.models.BigAutoField"
