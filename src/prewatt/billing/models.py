"""Tariffs, their immutable versions, and which account is on which tariff when."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Tariff(models.Model):
    """A named price plan of a property."""

    property_id = models.BigIntegerField()
    code = models.CharField(max_length=24)
    name = models.CharField(max_length=120)

    class Meta:
        db_table = "tariff"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property_id", "code"], name="tariff_code")
        ]


class TariffVersion(models.Model):
    """Immutable content of a tariff from an instant on; ``digest`` is SHA-256 of the canonical JSON.

    Maker and approver are apart: the database refuses a version approved by its own maker.
    """

    property_id = models.BigIntegerField()
    tariff = models.ForeignKey(Tariff, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    valid_from = models.DateTimeField()
    content = models.JSONField()
    digest = models.BinaryField(max_length=32)
    made_by = models.CharField(max_length=80)
    approved_by = models.CharField(max_length=80)
    approved_at = models.DateTimeField()

    class Meta:
        db_table = "tariff_version"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tariff", "number"], name="tariff_version_number"),
            models.UniqueConstraint(fields=["tariff", "valid_from"], name="tariff_version_start"),
            models.CheckConstraint(
                condition=~models.Q(made_by=models.F("approved_by")), name="maker_is_not_approver"
            ),
        ]


class TariffAssignment(models.Model):
    """The tariff of an account from an instant until the next assignment of the same account."""

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    tariff = models.ForeignKey(Tariff, on_delete=models.PROTECT)
    valid_from = models.DateTimeField()

    class Meta:
        db_table = "tariff_assignment"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account_id", "valid_from"], name="one_tariff_at_an_instant"
            )
        ]


class TariffEpoch(models.Model):
    """Counts changes of tariffs and assignments; a batch rates under the epoch it read itself."""

    property_id = models.BigIntegerField(primary_key=True)
    epoch = models.BigIntegerField(default=0)

    class Meta:
        db_table = "tariff_epoch"


class TariffDraft(models.Model):
    """A plan in the making: edited freely, priced by nobody until it is approved as a version."""

    property_id = models.BigIntegerField()
    code = models.CharField(max_length=24)
    name = models.CharField(max_length=120)
    content = models.JSONField()
    reason = models.CharField(max_length=400, blank=True)
    made_by = models.CharField(max_length=80)
    changed_at = models.DateTimeField()
    #: Grows with every change; a trial says which edition it tried.
    edition = models.PositiveIntegerField(default=1)

    class Meta:
        db_table = "tariff_draft"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property_id", "code"], name="one_draft_of_a_tariff")
        ]


class TariffTrial(models.Model):
    """One edition of a draft tried on real days, from the wish to the result."""

    class State(models.TextChoices):
        """Queued, running, and the two ends."""

        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    property_id = models.BigIntegerField()
    draft = models.ForeignKey(TariffDraft, on_delete=models.PROTECT, related_name="trials")
    edition = models.PositiveIntegerField()
    content = models.JSONField()
    days = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    accounts_done = models.PositiveIntegerField(default=0)
    accounts_total = models.PositiveIntegerField(default=0)
    #: `billing.trials.as_document`; null until done. A failure leaves its reason.
    result = models.JSONField(null=True)
    failure = models.CharField(max_length=400, blank=True)
    asked_by = models.CharField(max_length=80)
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tariff_trial"
