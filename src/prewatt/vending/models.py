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


class BooksProof(models.Model):
    """That cash, ledger and meter credit were the same at an instant, or by how much not: ``proofs``."""

    property_id = models.BigIntegerField()
    proved_at = models.DateTimeField()
    cash_micro = models.BigIntegerField()
    ledger_micro = models.BigIntegerField()
    meters_micro = models.BigIntegerField()
    made_by = models.CharField(max_length=80)

    class Meta:
        db_table = "books_proof"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "proved_at"], name="books_proof_latest")
        ]


class Refund(models.Model):
    """What is owed to a customer who left: taken off the account, due until somebody pays it out.

    The money itself is the transfer of the same ``event_id`` against refunds payable.
    """

    class State(models.TextChoices):
        """Due to the customer, or paid out."""

        DUE = "due"
        PAID = "paid"

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    event_id = models.BigIntegerField(unique=True)
    number = models.BigIntegerField()
    amount_micro = models.BigIntegerField()
    reason = models.CharField(max_length=80)
    state = models.CharField(max_length=4, choices=State.choices, default=State.DUE)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    paid_way = models.CharField(max_length=10, blank=True)
    paid_reference = models.CharField(max_length=80, blank=True)
    paid_by = models.CharField(max_length=80, blank=True)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "refund"
        indexes: ClassVar = [models.Index(fields=["property_id", "state"], name="refund_due")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(amount_micro__gt=0), name="refund_is_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(state="due", paid_at__isnull=True, paid_by="")
                | (models.Q(state="paid", paid_at__isnull=False) & ~models.Q(paid_by="")),
                name="refund_is_paid_by_somebody",
            ),
        ]
