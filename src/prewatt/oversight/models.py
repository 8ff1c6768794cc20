"""What an auditor watches for, what was found, and changes that no event of the audit explains."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditWatch(models.Model):
    """One watch of a property: what is looked for (``kinds.py``), and from what figure on.

    Written by the auditor's own function, ``save_watch``; the worker moves ``seen_transaction`` on.
    """

    property_id = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    name = models.CharField(max_length=80, blank=True)
    parameters = models.JSONField(default=dict)
    is_on = models.BooleanField(default=True)
    made_by = models.CharField(max_length=80)
    changed_at = models.DateTimeField()
    #: Every event of an earlier transaction has been looked at.
    seen_transaction = models.BigIntegerField(default=0)

    class Meta:
        db_table = "audit_watch"
        indexes: ClassVar = [models.Index(fields=["property_id", "kind"], name="watch_by_kind")]


class WatchFinding(models.Model):
    """Something that a watch found, once: ``key`` tells findings of one watch apart."""

    property_id = models.BigIntegerField()
    watch = models.ForeignKey(AuditWatch, on_delete=models.PROTECT, related_name="findings")
    key = models.CharField(max_length=120)
    actor = models.CharField(max_length=80)
    subject = models.CharField(max_length=80)
    #: The latest event that it rests on; a change past the program has none.
    event_id = models.BigIntegerField(null=True)
    happened_at = models.DateTimeField()
    found_at = models.DateTimeField()
    detail = models.JSONField(default=dict)
    #: The auditor who looked into it, and what came of that.
    seen_by = models.CharField(max_length=80, blank=True, db_default="")
    seen_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=400, blank=True, db_default="")

    class Meta:
        db_table = "watch_finding"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "happened_at", "id"], name="finding_by_time"),
            models.Index(
                fields=["property_id"], condition=models.Q(seen_at=None), name="finding_unseen"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["watch", "key"], name="found_once"),
        ]


class FindingLetter(models.Model):
    """That an auditor is written of a finding; the letter itself, and whether it was sent, is a `notice`."""

    property_id = models.BigIntegerField()
    finding = models.ForeignKey(WatchFinding, on_delete=models.PROTECT, related_name="letters")
    user_id = models.BigIntegerField()
    notice_id = models.BigIntegerField()
    written_at = models.DateTimeField()

    class Meta:
        db_table = "finding_letter"
        indexes: ClassVar = [
            models.Index(fields=["user_id", "property_id", "written_at"], name="letter_by_person"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["finding", "user_id"], name="told_once"),
        ]


class UnexplainedChange(models.Model):
    """A change of a watched table whose transaction left no event: made past the program.

    Triggers write it and, as the transaction ends, take it back where there is an event.
    """

    #: Null where the table is of no one property.
    property_id = models.BigIntegerField(null=True)
    table_name = models.CharField(max_length=63)
    operation = models.CharField(max_length=8)
    row_count = models.BigIntegerField()
    transaction = models.BigIntegerField()
    happened_at = models.DateTimeField()
    login = models.CharField(max_length=63)
    role = models.CharField(max_length=63)
    address = models.CharField(max_length=64)
    program = models.CharField(max_length=64)

    class Meta:
        db_table = "unexplained_change"
        indexes: ClassVar = [
            models.Index(fields=["transaction"], name="unexplained_by_transaction"),
        ]
