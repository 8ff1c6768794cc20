"""Registers the `api_keys` package with Django."""

from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.api_keys"
    label = "api_keys"
    default_auto_field = "django.db.models.BigAutoField"
