"""Registers the `approvals` package with Django."""

from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.approvals"
    label = "approvals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the ladder's own kind known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.approvals.ladders import LADDER

        register(LADDER)
