"""Registers the `estate` package with Django."""

from django.apps import AppConfig


class EstateConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.estate"
    label = "estate"
    default_auto_field = "django.db.models.BigAutoField"
