"""Registers the `supply` package with Django."""

from django.apps import AppConfig


class SupplyConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.supply"
    label = "supply"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kinds of change that take others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.supply import by_agreement, rules

        for kind in (rules.RULES, *by_agreement.KINDS):
            register(kind)
