"""Messages to people with every attempt and delivery, and alerts that need a person."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from prewatt.core.vocabulary import DeliveryState


class NotifyPolicy(models.Model):
    """A property's rules for messages; a property without a row keeps core's usual quiet hours."""

    property_id = models.BigIntegerField(primary_key=True)
    version = models.PositiveIntegerField(default=1)
    #: Quiet from .. until .., minutes after local midnight, across midnight; equal means never.
    quiet_starts_min = models.SmallIntegerField()
    quiet_ends_min = models.SmallIntegerField()
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "notify_policy"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(quiet_starts_min__range=(0, 1439), quiet_ends_min__range=(0, 1439)),
                name="quiet_hours_lie_within_a_day",
            )
        ]


class Message(models.Model):
    """What we owe somebody to say, once: ``dedupe_key`` makes the same warning one message."""

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    #: Null for a vacancy account, which has nobody to tell.
    customer_id = models.BigIntegerField(null=True)
    #: One of ``sentences.CODES``; ``detail`` fills its sentences.
    code = models.CharField(max_length=60)
    detail = models.JSONField(default=dict)
    language = models.CharField(max_length=12)
    #: Urgent messages pass quiet hours and go first.
    urgent = models.BooleanField(default=False)
    #: Composed from old readings: stored, never sent. It never stands in the way of a real one.
    would_have = models.BooleanField(default=False)
    dedupe_key = models.CharField(max_length=120)
    created_at = models.DateTimeField()
    #: When the worker looks at it next: the end of quiet hours, of a back-off or of a claim.
    due_at = models.DateTimeField()
    #: Counts the claims, so that a worker whose claim ran out cannot overwrite its successor.
    claim_no = models.PositiveIntegerField(default=0)
    #: core.vocabulary.DeliveryState.
    state = models.SmallIntegerField()
    #: Since when every channel of this customer has been tried at least once without delivery.
    all_tried_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "message"
        indexes: ClassVar = [
            models.Index(fields=["account_id", "created_at"], name="message_by_account"),
            models.Index(fields=["property_id", "created_at"], name="message_by_time"),
            models.Index(fields=["due_at"], condition=Q(finished_at=None), name="message_due"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account_id", "dedupe_key", "would_have"], name="message_once"
            ),
            models.CheckConstraint(
                condition=Q(would_have=False)
                | Q(state=DeliveryState.WOULD_HAVE.value, finished_at__isnull=False),
                name="would_have_is_never_sent",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[DeliveryState.PENDING.value, DeliveryState.RETRYING.value],
                    finished_at__isnull=True,
                )
                | Q(
                    state__in=[
                        DeliveryState.DELIVERED.value,
                        DeliveryState.EXHAUSTED.value,
                        DeliveryState.WOULD_HAVE.value,
                        DeliveryState.CANCELLED.value,
                    ],
                    finished_at__isnull=False,
                ),
                name="message_finished_with_state",
            ),
        ]


class Attempt(models.Model):
    """One try of one channel, and how it ended; written before the channel is spoken to."""

    property_id = models.BigIntegerField()
    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="attempts")
    channel = models.CharField(max_length=16)
    address = models.CharField(max_length=254)
    number = models.PositiveSmallIntegerField()
    tried_at = models.DateTimeField()
    #: core.vocabulary.DeliveryState; PENDING while the channel is being spoken to.
    state = models.SmallIntegerField()
    error = models.CharField(max_length=300, blank=True)
    next_try_at = models.DateTimeField(null=True)
    subject = models.CharField(max_length=200, blank=True)
    body = models.TextField(blank=True)

    class Meta:
        db_table = "message_attempt"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["message", "channel", "number"], name="attempt_once"),
            models.CheckConstraint(
                condition=Q(state=DeliveryState.RETRYING.value, next_try_at__isnull=False)
                | (~Q(state=DeliveryState.RETRYING) & Q(next_try_at__isnull=True)),
                name="retry_has_its_time",
            ),
        ]


class Alert(models.Model):
    """Something that needs a person: open until resolved; the same trouble is one alert."""

    property_id = models.BigIntegerField()
    #: One of ``alerts.CODES``; ``subject`` names the object as ``meter:4410``.
    code = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    #: The actor who closed it by hand, and with what note; empty where the system did.
    closed_by = models.CharField(max_length=80, blank=True, db_default="")
    close_note = models.CharField(max_length=200, blank=True, db_default="")

    class Meta:
        db_table = "alert"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "opened_at"], name="alert_by_time"),
            # Whether somebody has looked at a meter is asked for each unit that is shown.
            models.Index(
                fields=["property_id", "subject"],
                condition=Q(code="meter.tamper"),
                name="alert_of_tampering",
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["property_id", "code", "subject"],
                condition=Q(closed_at__isnull=True),
                name="one_open_alert",
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True) | Q(closed_at__gte=F("opened_at")),
                name="alert_closes_after_it_opens",
            ),
            models.CheckConstraint(
                condition=Q(closed_by="", close_note="")
                | (Q(closed_at__isnull=False) & ~Q(closed_by="") & ~Q(close_note="")),
                name="alert_closed_by_hand_says_who_and_why",
            ),
        ]
