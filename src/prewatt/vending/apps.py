"""Registers the `vending` package with Django."""

from django.apps import AppConfig


class VendingConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.vending"
    label = "vending"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kinds of change that take others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.vending.by_agreement import KINDS

        for kind in KINDS:
            register(kind)
