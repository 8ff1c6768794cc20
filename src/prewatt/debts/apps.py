"""Registers the `debts` package with Django."""

from django.apps import AppConfig


class DebtsConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.debts"
    label = "debts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kind of change that takes others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.debts.by_agreement import POLICY, WRITE_OFF

        register(WRITE_OFF)
        register(POLICY)
