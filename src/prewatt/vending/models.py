"""Payments: money that came in, by which way, for which account, with its receipt."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Payment(models.Model):
    """A payment as accepted. The money itself is the transfer of the same ``event_id``."""

    class Way(models.TextChoices):
        """How the money arrived."""

        CASH = "cash"
        ONLINE = "online"
        TRANSFER = "transfer"

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    event_id = models.BigIntegerField(unique=True)
    amount_micro = models.BigIntegerField()
    way = models.CharField(max_length=10, choices=Way.choices)
    reference = models.CharField(max_length=80, blank=True)
    paid_at = models.DateTimeField()
    accepted_at = models.DateTimeField()
    taken_by = models.CharField(max_length=80)

    class Meta:
        db_table = "payment"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "paid_at"], name="payment_by_time"),
            models.Index(fields=["account_id", "paid_at"], name="payment_by_account"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(amount_micro__gt=0), name="payment_is_positive"
            )
        ]
