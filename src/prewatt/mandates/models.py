"""Mandates: agreed to in one transaction, and used in another one, by whom and as often as they say."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from prewatt.access.models import ClockTimestamp


class Mandate(models.Model):
    """One mandate. ``effect`` is word for word what was agreed to; written by functions of the database alone."""

    property_id = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=80)
    effect = models.JSONField()
    proposal_id = models.BigIntegerField(unique=True)
    made_by = models.CharField(max_length=80)
    approved_by = models.CharField(max_length=80)
    given_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    uses_left = models.SmallIntegerField()
    used_at = models.DateTimeField(null=True)
    #: By the database's own clock, after which it holds so long as well, whatever clock a caller has.
    recorded_at = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        db_table = "mandate"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(made_by=F("approved_by")), name="mandate_of_two_people"
            ),
            models.CheckConstraint(condition=Q(uses_left__gte=0), name="mandate_is_used_up"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("given_at")), name="mandate_lasts"),
        ]
