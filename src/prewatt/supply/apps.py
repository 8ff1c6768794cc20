"""Registers the `supply` package with Django."""

from django.apps import AppConfig


class SupplyConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.supply"
    label = "supply"
    default_auto_field = "django.db.models.BigAutoField"
