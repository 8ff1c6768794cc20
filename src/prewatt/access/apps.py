"""Registers the `access` package with Django."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.access"
    label = "access"
    default_auto_field = "django.db.models.BigAutoField"
