"""Registers the `billing` package with Django."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Names the package; tables carry plain names set by each model."""

    name = "prewatt.billing"
    label = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the kinds of change that take others known to who approves."""
        from prewatt.approvals.kinds import register
        from prewatt.billing.agreed_terms import SET_TERMS
        from prewatt.billing.plans import KINDS
        from prewatt.billing.proposals import VERSIONS

        for kind in (VERSIONS, *KINDS, SET_TERMS):
            register(kind)
