"""Temporary lets: places that close and refund themselves."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class TemporaryLet(models.Model):
    """A booth or a merchant's season: a tenancy with an end that was agreed and paid for before.

    ``begins_at`` is what was agreed; until it has begun (``begun_at``) the let is announced, and its
    wallet holds what was paid. ``fee_micro`` and ``deposit_micro`` are what is taken at the beginning,
    as positive amounts; ``fee_seq`` is the fee's transfer, which a refund of unstarted units names.
    One that begins late pays from then: ``units`` and ``fee_micro`` become what was left of them.
    """

    property_id = models.BigIntegerField()
    unit_id = models.BigIntegerField()
    account_id = models.BigIntegerField(unique=True)
    tariff_version_id = models.BigIntegerField()
    begins_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField()
    units = models.PositiveIntegerField()
    fee_micro = models.BigIntegerField()
    deposit_micro = models.BigIntegerField()
    fee_event_id = models.BigIntegerField(null=True)
    fee_seq = models.BigIntegerField(null=True)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    #: When the worker last looked at it; the one it has not looked at for longest is next.
    tried_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=80, blank=True)
    #: Why it closed when it did: ``ended``, ``left`` before the end, ``silent``, without a
    #: reading at the end, or ``cancelled`` before it began.
    close_reason = models.CharField(max_length=10, blank=True)
    refund_id = models.BigIntegerField(null=True)

    class Meta:
        db_table = "temporary_let"
        indexes: ClassVar = [
            models.Index(
                fields=["ends_at"], name="let_to_close", condition=models.Q(closed_at__isnull=True)
            ),
            models.Index(
                fields=["begins_at"],
                name="let_to_begin",
                condition=models.Q(closed_at__isnull=True, begun_at__isnull=True),
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(begins_at__lt=models.F("ends_at")), name="let_is_not_empty"
            ),
            models.CheckConstraint(
                condition=models.Q(fee_micro__gte=0, deposit_micro__gte=0), name="let_takes_money"
            ),
            models.CheckConstraint(
                condition=models.Q(closed_at__isnull=True, closed_by="", close_reason="")
                | models.Q(
                    closed_at__isnull=False,
                    close_reason__in=("ended", "left", "silent", "cancelled"),
                ),
                name="let_closes_for_a_reason",
            ),
        ]
