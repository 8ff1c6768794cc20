"""Registers the `audit` package with Django."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.audit"
    label = "audit"
    default_auto_field = "django.db.models.BigAutoField"
