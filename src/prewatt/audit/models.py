"""Audit events: who did what to what, when and why; appended in the transaction of the deed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One deed. ``code`` is stable (``vending.recharge.posted``); sentences are made on reading.

    Where it came from and who wrote it the database fills in by itself (``sql/0002_origins.sql``):
    the defaults stand there, and ``db_default`` here only says that there are some.
    """

    property_id = models.BigIntegerField()
    happened_at = models.DateTimeField()
    actor = models.CharField(max_length=80)
    code = models.CharField(max_length=80)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)
    #: The web's request, or the process: ``9f31c04e7a1b55d2``, ``worker``, ``cli:import``.
    request_id = models.CharField(max_length=64, db_default="")
    #: As what the actor acted.
    duty = models.CharField(max_length=64, db_default="")
    address = models.CharField(max_length=64, db_default="")
    browser = models.CharField(max_length=64, db_default="")
    #: The login of the database that wrote it, and its transaction: nobody can say these otherwise.
    login = models.CharField(max_length=64, db_default="")
    transaction = models.BigIntegerField(null=True, db_default=None)
    #: The proposal that this deed belongs to.
    proposal_id = models.BigIntegerField(null=True)

    class Meta:
        db_table = "audit_event"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "happened_at", "id"], name="audit_by_time"),
            models.Index(
                fields=["property_id", "subject", "happened_at", "id"], name="audit_by_subject"
            ),
            models.Index(
                fields=["property_id", "actor", "happened_at", "id"], name="audit_by_actor"
            ),
            models.Index(fields=["property_id", "code", "happened_at", "id"], name="audit_by_code"),
            models.Index(fields=["transaction"], name="audit_by_transaction"),
        ]
