"""Registers the `instructions` package with Django."""

from django.apps import AppConfig


class InstructionsConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.instructions"
    label = "instructions"
    default_auto_field = "django.db.models.BigAutoField"
