"""Registers the `vending` package with Django."""

from django.apps import AppConfig


class VendingConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.vending"
    label = "vending"
    default_auto_field = "django.db.models.BigAutoField"
