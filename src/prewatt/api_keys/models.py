"""Keys of programs: which duty each has at which property, how much of it, and until when."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from prewatt.access.models import Duty

#: A program has no second factor, so none of them is an administrator.
DUTIES = (Duty.OPERATOR, Duty.AUDITOR)


class ApiKey(models.Model):
    """One key. Its secret is nowhere: ``secret_sha256`` is of 256 random bits, so nothing is guessed from it.

    ``permissions`` are names of `access.scope.PERMISSIONS`; the key may do no other thing of its duty.
    """

    property_id = models.BigIntegerField()
    public_id = models.CharField(max_length=16, unique=True)
    secret_sha256 = models.BinaryField(max_length=32)
    name = models.CharField(max_length=80)
    duty = models.CharField(max_length=16, choices=[(duty.value, duty.label) for duty in DUTIES])
    permissions = ArrayField(models.CharField(max_length=40))
    proposal_id = models.BigIntegerField(unique=True)
    made_by = models.CharField(max_length=80)
    approved_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_by = models.CharField(max_length=80, blank=True)
    ended_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "api_key"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "-made_at"], name="keys_of_property")
        ]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(duty__in=DUTIES), name="key_of_a_program"),
            models.CheckConstraint(
                condition=~Q(made_by=F("approved_by")), name="key_of_two_people"
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("made_at")), name="key_lasts"),
        ]
