"""Registers the `tamper` package with Django."""

from django.apps import AppConfig


class TamperConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.tamper"
    label = "tamper"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kind of change that takes others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.tamper.by_agreement import POLICY

        register(POLICY)
