"""The app of moves, for its one table."""

from __future__ import annotations

from django.apps import AppConfig


class MovesConfig(AppConfig):
    """Tenants in, out and over."""

    name = "prewatt.moves"
    label = "moves"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kind of change that takes others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.moves.agreed_edits import EDIT

        register(EDIT)
