"""Registers the `billing` package with Django."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.billing"
    label = "billing"
    default_auto_field = "django.db.models.BigAutoField"
