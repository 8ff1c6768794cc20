"""Cases of tampering and their evidence. What holds of them whoever writes is `sql/0001_cases.sql`."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from prewatt.core.vocabulary import CaseState, TamperKind

REASONS = ("false_alarm", "work", "repaired", "proved", "exchanged", "other")


class TamperCase(models.Model):
    """One incident at one meter, from its first evidence to a person's reason for closing it.

    ``kind`` is `core.vocabulary.TamperKind`, ``state`` a `CaseState`. ``account_id`` is who paid by the meter
    when it was opened, None where nobody did. ``evidence_count`` counts what came, stored or not.
    """

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    account_id = models.BigIntegerField(null=True)
    kind = models.SmallIntegerField()
    state = models.SmallIntegerField(db_default=int(CaseState.OPEN))
    opened_at = models.DateTimeField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    evidence_count = models.IntegerField(db_default=0)
    looked_by = models.CharField(max_length=80, blank=True, db_default="")
    looked_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=80, blank=True, db_default="")
    closed_at = models.DateTimeField(null=True)
    close_reason = models.CharField(max_length=16, blank=True, db_default="")
    close_note = models.CharField(max_length=200, blank=True, db_default="")
    #: What was done by itself (`core.vocabulary.TamperResponse`), when, and why less than the policy says.
    response = models.SmallIntegerField(null=True)
    responded_at = models.DateTimeField(null=True)
    response_kept = models.CharField(max_length=12, blank=True, db_default="")

    class Meta:
        db_table = "tamper_case"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["meter_id", "kind"],
                condition=~Q(state=int(CaseState.CLOSED)),
                name="one_open_tamper_case",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=[int(each) for each in TamperKind])
                & Q(state__in=[int(each) for each in CaseState]),
                name="tamper_case_is_known",
            ),
            models.CheckConstraint(
                condition=Q(first_at__lte=F("last_at")) & Q(evidence_count__gt=0),
                name="tamper_case_has_evidence",
            ),
            models.CheckConstraint(
                condition=Q(
                    ~Q(closed_by=""), state=int(CaseState.CLOSED), closed_at__isnull=False,
                    close_reason__in=REASONS,
                )
                | Q(
                    ~Q(state=int(CaseState.CLOSED)), closed_by="", closed_at=None, close_reason="",
                    close_note="",
                ),
                name="tamper_case_closed_with_reason",
            ),
            models.CheckConstraint(
                condition=Q(looked_at=None, looked_by="")
                | (Q(looked_at__isnull=False) & ~Q(looked_by="")),
                name="tamper_case_looked_at_by_somebody",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [
            models.Index(fields=["property_id", "opened_at"], name="tamper_case_by_time"),
            models.Index(fields=["account_id"], name="tamper_case_of_account"),
            models.Index(
                fields=["opened_at"],
                condition=Q(responded_at=None),
                name="tamper_case_to_respond",
            ),
        ]


class TamperPolicy(models.Model):
    """What a property does by itself when a case is opened; a property without a row raises alerts alone.

    Written by `change_tamper_policy` alone, for others agreed to it.
    """

    property_id = models.BigIntegerField(primary_key=True)
    version = models.PositiveIntegerField()
    body = models.JSONField()
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "tamper_policy"


class MeterVersion(models.Model):
    """Since when a device tells a version of its firmware or configuration; the first it told, and each other one."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    #: firmware, configuration.
    part = models.CharField(max_length=16)
    version = models.CharField(max_length=60)
    since = models.DateTimeField()

    class Meta:
        db_table = "meter_version"
        indexes: ClassVar = [
            models.Index(fields=["meter_id", "part", "-since"], name="versions_of_meter")
        ]


class ClockCorrection(models.Model):
    """A clock that was off by ``before_s`` when its meter was asked to move it, and what it was off by after that."""

    request_id = models.BigIntegerField(primary_key=True)
    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    before_s = models.IntegerField()
    asked_at = models.DateTimeField()
    after_s = models.IntegerField(null=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "clock_correction"
        indexes: ClassVar = [
            models.Index(fields=["meter_id", "-asked_at"], name="corrections_of_meter")
        ]


class TamperEvidence(models.Model):
    """What a case rests on: an event, readings, a feeder's sum; with its instant, its receipt and its digest.

    ``happened_at`` is by `core.tampering.happened_us`; ``told_us`` what the device said, as it said it.
    """

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    case = models.ForeignKey(TamperCase, on_delete=models.PROTECT)
    #: event, readings, feeder, clock, relay.
    source = models.CharField(max_length=12)
    code = models.CharField(max_length=40)
    happened_at = models.DateTimeField()
    told_us = models.BigIntegerField(null=True)
    received_at = models.DateTimeField()
    detail = models.JSONField()
    digest = models.BinaryField(max_length=32)

    class Meta:
        db_table = "tamper_evidence"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["meter_id", "digest"], name="tamper_evidence_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["case", "happened_at"], name="tamper_evidence_of_case"),
        ]


class TamperNote(models.Model):
    """What somebody found who was at the meter of a case; added while it is open, and never changed."""

    property_id = models.BigIntegerField()
    case = models.ForeignKey(TamperCase, on_delete=models.PROTECT)
    noted_at = models.DateTimeField()
    noted_by = models.CharField(max_length=80)
    text = models.CharField(max_length=400)

    class Meta:
        db_table = "tamper_note"
