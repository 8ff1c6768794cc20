"""A property's policy about credit that is taken back, as its deeds read it."""

from __future__ import annotations

from prewatt.debts.models import DebtPolicy
from prewatt.debts.words import Policy


def policy_of(property_id: int) -> Policy:
    """The policy of a property, in the caller's transaction; the defaults where it has no own."""
    row = DebtPolicy.objects.filter(pk=property_id).first()
    if row is None:
        return Policy()
    return Policy(
        DebtPolicy.Missing(row.reversed_payment),
        DebtPolicy.Missing(row.moved_credit),
        row.share_ppm,
        row.weekly_cap_micro,
        DebtPolicy.Missing(row.let_shortfall),
        row.later_let_pays,
    )
