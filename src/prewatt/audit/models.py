"""Audit events: who did what to what, when and why; appended in the transaction of the deed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One deed. ``code`` is stable (``vending.recharge.posted``); sentences are made on reading."""

    property_id = models.BigIntegerField()
    happened_at = models.DateTimeField()
    actor = models.CharField(max_length=80)
    code = models.CharField(max_length=80)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)

    class Meta:
        db_table = "audit_event"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "happened_at"], name="audit_by_time"),
            models.Index(fields=["property_id", "subject"], name="audit_by_subject"),
        ]
