"""Registers the `mdm` package with Django."""

from django.apps import AppConfig


class MdmConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.mdm"
    label = "mdm"
    default_auto_field = "django.db.models.BigAutoField"
