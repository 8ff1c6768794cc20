"""Registers the `devices` package with Django."""

from django.apps import AppConfig


class DevicesConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.devices"
    label = "devices"
    default_auto_field = "django.db.models.BigAutoField"
