"""Registers the `sign_in` package with Django."""

from django.apps import AppConfig


class SignInConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.sign_in"
    label = "sign_in"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kinds of change known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.sign_in.duties import KINDS
        from prewatt.sign_in.groups import GROUPS

        for kind in (*KINDS, GROUPS):
            register(kind)
