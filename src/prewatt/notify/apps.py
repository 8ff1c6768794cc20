"""Registers the `notify` package with Django."""

from django.apps import AppConfig


class NotifyConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.notify"
    label = "notify"
    default_auto_field = "django.db.models.BigAutoField"
