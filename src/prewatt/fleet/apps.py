"""Registers the `fleet` package with Django."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.fleet"
    label = "fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kind of change that takes others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.fleet.bulks import BULK

        register(BULK)
