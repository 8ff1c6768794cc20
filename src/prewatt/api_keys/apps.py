"""Registers the `api_keys` package with Django."""

from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.api_keys"
    label = "api_keys"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kind of change known to who approves."""
        from prewatt.api_keys.operations import KEYS
        from prewatt.approvals.kinds import register

        register(KEYS)
