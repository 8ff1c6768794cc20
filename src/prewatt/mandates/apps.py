"""Registers the `mandates` package with Django."""

from django.apps import AppConfig


class MandatesConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.mandates"
    label = "mandates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kinds of change known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.mandates.operations import KINDS

        for kind in KINDS:
            register(kind)
