"""Days of devices, gaps in their readings, and what meters are asked, one by one and in bulks."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q


class FleetLook(models.Model):
    """How far a meter's readings have been looked at, and how it did of late: one row per meter, the worker's.

    ``looked_to`` is the instant up to which days count; ``last_at`` the last reading before it.
    """

    meter_id = models.BigIntegerField(primary_key=True)
    property_id = models.BigIntegerField()
    looked_to = models.DateTimeField()
    last_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField()
    #: Of yesterday and today, as local days: what came, at most what was promised, and what was promised.
    stored = models.IntegerField(db_default=0)
    promised = models.IntegerField(db_default=0)

    class Meta:
        db_table = "fleet_look"
        indexes: ClassVar = [
            models.Index(fields=["next_at"], name="fleet_look_due"),
            models.Index(fields=["property_id"], name="fleet_look_by_place"),
        ]


class FleetDay(models.Model):
    """Readings of one meter on one local day: how many came, and how many its reporting period promises."""

    pk = models.CompositePrimaryKey("property_id", "day", "meter_id")
    property_id = models.BigIntegerField()
    day = models.DateField()
    meter_id = models.BigIntegerField()
    stored = models.IntegerField()
    promised = models.IntegerField()

    class Meta:
        db_table = "fleet_day"


class FleetTotal(models.Model):
    """One local day of a property: the sums of its meters' days, none with more than was promised."""

    pk = models.CompositePrimaryKey("property_id", "day")
    property_id = models.BigIntegerField()
    day = models.DateField()
    devices = models.IntegerField(db_default=0)
    #: Of which nothing was missing, and nothing came.
    complete = models.IntegerField(db_default=0)
    silent = models.IntegerField(db_default=0)
    stored = models.BigIntegerField(db_default=0)
    promised = models.BigIntegerField(db_default=0)
    #: Days of meters have changed since they were added up.
    is_stale = models.BooleanField(db_default=True)
    counted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "fleet_total"
        indexes: ClassVar = [
            models.Index(
                fields=["counted_at"], condition=Q(is_stale=True), name="fleet_total_stale"
            )
        ]


class MeterGap(models.Model):
    """A span between two readings of a meter in which others should lie: from the one, to the other."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    from_at = models.DateTimeField()
    to_at = models.DateTimeField()
    #: How many readings were missing when it was found, and are now.
    found_missing = models.IntegerField()
    missing = models.IntegerField()
    found_at = models.DateTimeField()
    asked = models.PositiveSmallIntegerField(db_default=0)
    asked_at = models.DateTimeField(null=True)
    #: How often the meter said that it had sent what it kept.
    answered = models.PositiveSmallIntegerField(db_default=0)
    next_at = models.DateTimeField(null=True)
    #: core.vocabulary.GapState.
    state = models.SmallIntegerField(db_default=1)
    closed_at = models.DateTimeField(null=True)
    #: Why it was given up: no_history (its driver has none), unsupported, no_answer, not_kept.
    reason = models.CharField(max_length=24, blank=True, db_default="")

    class Meta:
        db_table = "meter_gap"
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"], condition=Q(next_at__isnull=False), name="meter_gap_due"
            ),
            models.Index(fields=["property_id", "to_at"], name="meter_gap_by_place"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["meter_id", "from_at", "to_at"], name="one_gap"),
            models.CheckConstraint(condition=Q(from_at__lt=F("to_at")), name="meter_gap_lasts"),
            models.CheckConstraint(
                condition=Q(state=1, closed_at__isnull=True, reason="")
                | Q(state=2, closed_at__isnull=False, missing=0)
                | (Q(state=3, closed_at__isnull=False) & ~Q(reason="")),
                name="meter_gap_ends_with_a_reason",
            ),
        ]


class FleetBulk(models.Model):
    """One order to many meters, as it was agreed to; its items are `MeterRequest`."""

    property_id = models.BigIntegerField()
    #: core.vocabulary.RequestKind.
    kind = models.SmallIntegerField()
    #: Which meters were asked for, in words of `bulks.FILTERS`.
    chosen = models.JSONField()
    meters = models.IntegerField()
    proposal_id = models.BigIntegerField()
    made_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    begun_at = models.DateTimeField()
    per_s = models.PositiveSmallIntegerField()
    per_gateway_min = models.PositiveSmallIntegerField()
    #: Above so many failures in a hundred it stops by itself.
    bound_percent = models.PositiveSmallIntegerField()
    #: core.vocabulary.BulkState.
    state = models.SmallIntegerField(db_default=1)
    state_at = models.DateTimeField()
    state_by = models.CharField(max_length=80, db_default="")
    #: Up to when its pace has been used (`core.fleet.allowance`).
    used_to = models.DateTimeField()

    class Meta:
        db_table = "fleet_bulk"
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(state=1), name="fleet_bulk_running"),
            models.Index(fields=["property_id", "begun_at"], name="fleet_bulk_by_time"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(per_s__range=(1, 200))
                & Q(per_gateway_min__range=(1, 6000))
                & Q(bound_percent__range=(1, 100)),
                name="fleet_bulk_is_paced",
            )
        ]


class MeterRequest(models.Model):
    """Something that one meter is asked, alone, of a bulk or for a gap."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    #: core.vocabulary.RequestKind and RequestState.
    kind = models.SmallIntegerField()
    state = models.SmallIntegerField(db_default=1)
    bulk_id = models.BigIntegerField(null=True)
    gap_id = models.BigIntegerField(null=True)
    #: Which gateway or concentrator it goes by, as known when it was made; empty: its own line.
    gateway = models.CharField(max_length=60, blank=True)
    #: Of HISTORY its span, of CLOCK how many seconds to move by.
    from_at = models.DateTimeField(null=True)
    to_at = models.DateTimeField(null=True)
    move_s = models.IntegerField(null=True)
    made_at = models.DateTimeField()
    made_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    expires_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(db_default=0)
    next_try_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    #: What came of it: a word of `requests.RESULTS`.
    result = models.CharField(max_length=24, blank=True, db_default="")
    register_wh = models.BigIntegerField(null=True)

    class Meta:
        db_table = "meter_request"
        indexes: ClassVar = [
            models.Index(
                fields=["bulk_id", "next_try_at"], condition=Q(state__in=[1, 2]), name="request_due"
            ),
            models.Index(fields=["bulk_id", "state"], name="request_of_bulk"),
            models.Index(fields=["bulk_id", "sent_at"], name="request_pace"),
            models.Index(fields=["meter_id", "made_at"], name="request_by_meter"),
            models.Index(fields=["property_id", "made_at"], name="request_by_time"),
        ]
        constraints: ClassVar = [
            # One backfill at a time of a gap.
            models.UniqueConstraint(
                fields=["gap_id"],
                condition=Q(state__in=[1, 2], gap_id__isnull=False),
                name="one_backfill",
            ),
            models.UniqueConstraint(
                fields=["bulk_id", "meter_id"],
                condition=Q(bulk_id__isnull=False),
                name="request_once_in_a_bulk",
            ),
            models.CheckConstraint(condition=Q(kind__in=[1, 2, 3, 4, 5]), name="request_cuts_none"),
            models.CheckConstraint(
                condition=Q(state__in=[1, 2], ended_at__isnull=True)
                | Q(state__in=[3, 4, 5, 6], ended_at__isnull=False, next_try_at__isnull=True),
                name="request_ends",
            ),
            models.CheckConstraint(
                condition=~Q(kind=2) | Q(from_at__isnull=False, to_at__isnull=False),
                name="request_has_its_span",
            ),
            models.CheckConstraint(
                condition=~Q(kind=3) | Q(move_s__isnull=False), name="request_has_its_seconds"
            ),
        ]
