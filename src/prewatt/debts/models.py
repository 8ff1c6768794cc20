"""Debts, each with a number, a reason and an agreement; and a property's policy about them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

PPM = 1_000_000


class Debt(models.Model):
    """What a customer owes beside the wallet, by a name that stands on every paper about it.

    The money is in the ledger: what is left is the sum of the account's transfers with
    counter-account DEBTS and this ``code``. Nothing of it is kept here.
    """

    class Reason(models.TextChoices):
        """Why there is a debt."""

        REVERSED_PAYMENT = "reversed_payment"
        MOVED_CREDIT = "moved_credit"
        ARREARS = "arrears"
        AGREED = "agreed"
        #: What a let that ended came to beyond its credit and its deposit.
        LET_SHORTFALL = "let_shortfall"

    class Ending(models.TextChoices):
        """How a debt ended; empty while it is open."""

        OPEN = ""
        PAID = "paid"
        WRITTEN_OFF = "written_off"

    property_id = models.BigIntegerField()
    legal_entity_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    #: Of the document series of debts of the legal entity; ``code`` is the series and the number.
    number = models.BigIntegerField()
    code = models.CharField(max_length=24)
    reason = models.CharField(max_length=20, choices=Reason.choices)
    note = models.CharField(max_length=200, blank=True)
    principal_micro = models.BigIntegerField()
    #: The event that the debt arose in; its other transfers say what happened.
    origin_event_id = models.BigIntegerField()
    #: The agreed share of each recharge, and the most in seven days (0: no cap).
    share_ppm = models.PositiveIntegerField()
    weekly_cap_micro = models.BigIntegerField(default=0)
    opened_at = models.DateTimeField()
    opened_by = models.CharField(max_length=80)
    closed_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=12, choices=Ending.choices, blank=True)

    class Meta:
        db_table = "debt"
        indexes: ClassVar = [
            models.Index(fields=["account_id"], condition=Q(closed_at=None), name="debt_open"),
            models.Index(fields=["property_id", "opened_at"], name="debt_by_property"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["legal_entity_id", "number"], name="debt_number"),
            models.CheckConstraint(
                condition=Q(principal_micro__gt=0)
                & Q(share_ppm__lte=PPM)
                & Q(weekly_cap_micro__gte=0),
                name="debt_is_sensible",
            ),
            models.CheckConstraint(
                condition=Q(closed_at=None, ending="") | (~Q(closed_at=None) & ~Q(ending="")),
                name="debt_ends_somehow",
            ),
        ]


class DebtPolicy(models.Model):
    """What a property does where credit that is taken back has been used already, or where a let ends
    with less than it used.

    A property without a row has the defaults of ``debts.policy``.
    """

    class Missing(models.TextChoices):
        """The used part becomes a named debt; or the deed is refused; or the property bears it."""

        DEBT = "debt"
        REFUSE = "refuse"
        LOSS = "loss"

    property_id = models.BigIntegerField(primary_key=True)
    reversed_payment = models.CharField(max_length=6, choices=Missing.choices)
    moved_credit = models.CharField(max_length=6, choices=Missing.choices)
    #: What becomes of what a let lacks at its end; there is nothing to refuse.
    let_shortfall = models.CharField(max_length=6, choices=Missing.choices, default=Missing.DEBT)
    #: Whether another let of the same customer begins with paying what earlier ones lacked.
    later_let_pays = models.BooleanField(default=True)
    #: The agreement of debts that arise by this policy.
    share_ppm = models.PositiveIntegerField()
    weekly_cap_micro = models.BigIntegerField()
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "debt_policy"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(share_ppm__lte=PPM) & Q(weekly_cap_micro__gte=0),
                name="debt_policy_is_sensible",
            ),
            models.CheckConstraint(
                condition=Q(reversed_payment__in=["debt", "refuse", "loss"])
                & Q(moved_credit__in=["debt", "refuse", "loss"])
                & Q(let_shortfall__in=["debt", "loss"]),
                name="debt_policy_is_known",
            ),
        ]
