"""Tariffs, their immutable versions, and which account is on which tariff when."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from prewatt.approvals.models import Proposal


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
    #: The proposal that two people agreed to; none for a version that came with an import.
    proposal = models.OneToOneField(Proposal, on_delete=models.PROTECT, null=True, related_name="+")

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
    """The tariff of an account from an instant until the next assignment of the same account.

    Of two from one instant the later row holds: a wrong tariff is corrected, never overwritten. Where
    that row ``withdraws``, nothing changes at its instant: what holds before goes on.
    """

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    tariff = models.ForeignKey(Tariff, on_delete=models.PROTECT)
    valid_from = models.DateTimeField()
    withdraws = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "tariff_assignment"
        indexes: ClassVar = [
            models.Index(fields=["account_id", "valid_from", "id"], name="tariffs_of_account")
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
    #: The number of the version that its present edition has become; none while it is a draft.
    became = models.PositiveIntegerField(null=True)

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


class AccountTerms(models.Model):
    """What a tariff asks of an account, from a local midnight on; the later row holds.

    ``exempt`` are codes of taxes that it does not pay, ``overlay_groups`` whose announced prices
    it follows. An account without terms is one person with no contracted power. The first terms
    also hold before their start, as the first tariff version does. A row that ``withdraws`` takes the
    terms of its instant away, as with assignments of tariffs.
    """

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    valid_from = models.DateTimeField()
    members = models.PositiveIntegerField()
    contracted_w = models.PositiveBigIntegerField()
    exempt = ArrayField(models.CharField(max_length=40))
    overlay_groups = ArrayField(models.CharField(max_length=40))
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    withdraws = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "account_terms"
        indexes: ClassVar = [
            models.Index(fields=["account_id", "valid_from", "id"], name="terms_of_account")
        ]


class PriceEvent(models.Model):
    """A critical peak announced to a group for [from_at, until_at); its price is the tariff's.

    A row that ``withdraws`` another ends it at its own ``until_at``; nothing is ever changed.
    """

    property_id = models.BigIntegerField()
    overlay_group = models.CharField(max_length=40)
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    announced_at = models.DateTimeField()
    made_by = models.CharField(max_length=80)
    withdraws = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, related_name="withdrawn_by"
    )

    class Meta:
        db_table = "price_event"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(until_at__gt=models.F("from_at"))
                | models.Q(withdraws__isnull=False),
                name="event_lasts",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["property_id", "overlay_group"], name="events_of_group")
        ]


class PriceOfSeries(models.Model):
    """One price of a group's real-time series, for [from_at, until_at), in nano-units per kWh."""

    property_id = models.BigIntegerField()
    overlay_group = models.CharField(max_length=40)
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    price_nano = models.BigIntegerField()
    appended_at = models.DateTimeField()
    made_by = models.CharField(max_length=80)

    class Meta:
        db_table = "price_series"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["property_id", "overlay_group", "from_at"], name="one_price_at_an_instant"
            ),
            models.CheckConstraint(
                condition=models.Q(until_at__gt=models.F("from_at")), name="price_lasts"
            ),
        ]


class CarriedSteps(models.Model):
    """A step count that an account went on with when its unit changed hands, at ``at``.

    ``step_wh`` is what the unit had used in the window by then. Counting a window anew starts
    from the last such row in it.
    """

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    from_account_id = models.BigIntegerField()
    at = models.DateTimeField()
    step_window = models.BigIntegerField()
    step_wh = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "carried_steps"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account_id", "at"], name="steps_carried_once")
        ]


class RerateRequest(models.Model):
    """An account whose charges from an instant on have to be rated anew, and why.

    A stable word is the reason: ``late_reading``, ``edited_reading``, ``late_move``, ``terms``,
    ``prices``. There is one open request for an account; it moves to the earliest instant asked for.
    """

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    from_at = models.DateTimeField()
    reason = models.CharField(max_length=40)
    requested_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "rerate_request"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account_id"],
                condition=models.Q(done_at__isnull=True),
                name="one_open_rerate_request",
            )
        ]


class ResaleTerms(models.Model):
    """What the price rules of a place compare with, from an instant on; the later row holds.

    ``rules`` names a pack of ``data/price_rules``. ``purchase_nano_per_kwh`` is what the property
    pays on average for a kilowatt-hour, its standing charges included; ``direct`` is the plan that
    a direct customer of the local supplier would have. Null: not known, and then not checked.
    """

    property_id = models.BigIntegerField()
    valid_from = models.DateTimeField()
    rules = models.CharField(max_length=40)
    purchase_nano_per_kwh = models.BigIntegerField(null=True)
    direct = models.JSONField(null=True)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()

    class Meta:
        db_table = "resale_terms"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(purchase_nano_per_kwh__isnull=True)
                | models.Q(purchase_nano_per_kwh__gte=0),
                name="bought_for_something",
            )
        ]


class EventRebate(models.Model):
    """What an announced peak came to for an account, and what it was compared with; append-only.

    The highest revision holds. ``usual_wh`` is the sum of the ``counted`` days among ``days``, each
    [date, Wh, whether it counts]; ``amount_micro`` is the whole rebate, and the transfer books its
    difference to the revision before. ``outcome`` is a word of ``core.baseline.Outcome``.
    """

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    event = models.ForeignKey(PriceEvent, on_delete=models.PROTECT, related_name="rebates")
    revision = models.PositiveSmallIntegerField()
    tariff_version_id = models.BigIntegerField()
    rebate_nano = models.BigIntegerField()
    outcome = models.CharField(max_length=16)
    used_wh = models.BigIntegerField()
    usual_wh = models.BigIntegerField()
    counted = models.PositiveSmallIntegerField()
    days = models.JSONField()
    amount_micro = models.BigIntegerField()
    transfer_event_id = models.BigIntegerField(null=True)
    transfer_seq = models.BigIntegerField(null=True)
    decided_at = models.DateTimeField()

    class Meta:
        db_table = "event_rebate"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account_id", "event", "revision"], name="one_rebate_of_a_revision"
            ),
            models.CheckConstraint(
                condition=models.Q(amount_micro__gte=0)
                & (models.Q(amount_micro=0) | models.Q(outcome="paid")),
                name="only_paid_rebates_have_amounts",
            ),
        ]


class EventLook(models.Model):
    """An announced peak was settled so many hours after its end; append-only."""

    property_id = models.BigIntegerField()
    event = models.ForeignKey(PriceEvent, on_delete=models.PROTECT, related_name="looks")
    hours = models.PositiveIntegerField()
    looked_at = models.DateTimeField()

    class Meta:
        db_table = "event_look"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "hours"], name="one_look_at_a_time")
        ]
