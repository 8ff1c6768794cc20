"""Messages to people with every attempt and delivery, and alerts that need a person."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q


class Message(models.Model):
    """What we owe somebody to say, once: ``dedupe_key`` makes the same warning one message."""

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    customer_id = models.BigIntegerField(null=True)
    #: Stable code such as ``supply.level`` or ``supply.cut``; ``detail`` fills its sentence.
    code = models.CharField(max_length=60)
    detail = models.JSONField(default=dict)
    language = models.CharField(max_length=12)
    urgent = models.BooleanField(default=False)
    dedupe_key = models.CharField(max_length=120)
    created_at = models.DateTimeField()
    not_before = models.DateTimeField()
    #: core.vocabulary.DeliveryState.
    state = models.SmallIntegerField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "message"
        indexes: ClassVar = [
            models.Index(fields=["account_id", "created_at"], name="message_by_account"),
            models.Index(fields=["not_before"], condition=Q(finished_at=None), name="message_due"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account_id", "dedupe_key"], name="message_once")
        ]


class Attempt(models.Model):
    """One try of one channel, and how it ended."""

    property_id = models.BigIntegerField()
    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="attempts")
    channel = models.CharField(max_length=16)
    address = models.CharField(max_length=254)
    number = models.PositiveSmallIntegerField()
    tried_at = models.DateTimeField()
    #: core.vocabulary.DeliveryState.
    state = models.SmallIntegerField()
    error = models.CharField(max_length=300, blank=True)
    next_try_at = models.DateTimeField(null=True)
    subject = models.CharField(max_length=200, blank=True)
    body = models.TextField(blank=True)

    class Meta:
        db_table = "message_attempt"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message", "channel", "number"], name="attempt_once"
            )
        ]


class Alert(models.Model):
    """Something that needs a person: open until resolved; the same trouble is one alert."""

    property_id = models.BigIntegerField()
    code = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "alert"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["property_id", "code", "subject"],
                condition=Q(closed_at__isnull=True),
                name="one_open_alert",
            )
        ]
