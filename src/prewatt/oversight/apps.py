"""Registers the `oversight` package with Django."""

from django.apps import AppConfig


class OversightConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.oversight"
    label = "oversight"
    default_auto_field = "django.db.models.BigAutoField"
