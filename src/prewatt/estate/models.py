"""The estate and its people: what is where, who lives there, which meter measures what, when.

Tables only, with every rule the database can hold; reads are in ``queries``, writes in
``operations``. Periods are half-open ``[from, to)``; overlap is refused by exclusion constraints
on ``int8range(id, id, '[]')``, which need no extension. Every row of a property says so in its
``property_id``, because row-level security looks at nothing else.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q, Value

from prewatt.core.drivers import Driver
from prewatt.estate.calendars import DayKind


def no_overlap(name: str, column: str) -> ExclusionConstraint:
    """No two rows with the same ``column`` may have periods that share an instant."""
    same = Func(F(column), F(column), Value("[]"), function="int8range")
    return ExclusionConstraint(
        name=name,
        expressions=[(same, RangeOperators.OVERLAPS), ("period", RangeOperators.OVERLAPS)],
    )


def not_empty(name: str) -> models.CheckConstraint:
    """A period must contain at least one instant and start somewhere."""
    return models.CheckConstraint(
        condition=Q(period__isempty=False) & Q(period__lower_inf=False), name=name
    )


class Organisation(models.Model):
    """A management company; the outermost wall between two users of one installation."""

    name = models.CharField(max_length=120, unique=True)

    class Meta:
        db_table = "organisation"


class LegalEntity(models.Model):
    """The firm that sells: its name is on the documents, and numbers run per entity and series."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    name = models.CharField(max_length=120)
    tax_number = models.CharField(max_length=40, blank=True)

    class Meta:
        db_table = "legal_entity"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organisation", "name"], name="legal_entity_name")
        ]


class Property(models.Model):
    """An estate under one management, with one currency, one civil time and one calendar."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    legal_entity = models.ForeignKey(LegalEntity, on_delete=models.PROTECT)
    code = models.CharField(max_length=24, unique=True)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3)
    minor_digits = models.PositiveSmallIntegerField(default=2)
    time_zone = models.CharField(max_length=40)
    #: ISO 3166 country or subdivision whose public holidays count, such as ``DE-HE`` or ``CN``.
    holiday_calendar = models.CharField(max_length=12, blank=True)
    language = models.CharField(max_length=12, default="en")

    class Meta:
        db_table = "property"


class HolidayList(models.Model):
    """Which public holidays a property follows from a day on, instead of `Property.holiday_calendar`;
    ``observed``: with the days to which they shift from a weekend.
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    valid_from = models.DateField()
    code = models.CharField(max_length=12, blank=True)
    observed = models.BooleanField()

    class Meta:
        db_table = "holiday_list"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property", "valid_from"], name="one_list_from_a_day")
        ]


class CalendarDay(models.Model):
    """What a property says of a day itself; a workday counts as a weekday, Monday 0."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    day = models.DateField()
    kind = models.CharField(max_length=8, choices=[(each.value, each.value) for each in DayKind])
    counts_as = models.PositiveSmallIntegerField(null=True)
    note = models.CharField(max_length=120, blank=True)

    class Meta:
        db_table = "calendar_day"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property", "day"], name="one_word_on_a_day"),
            models.CheckConstraint(
                condition=Q(kind="workday", counts_as__isnull=False, counts_as__range=(0, 6))
                | (~Q(kind="workday") & Q(counts_as__isnull=True)),
                name="workday_counts_as_a_weekday",
            ),
        ]


class Building(models.Model):
    """A house of the property; ``position`` orders the façade board."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT, related_name="buildings")
    code = models.CharField(max_length=12)
    name = models.CharField(max_length=80)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        db_table = "building"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property", "code"], name="building_code")
        ]


class Unit(models.Model):
    """A flat, office, shop, booth or plant room."""

    class Kind(models.TextChoices):
        """What a unit is used for."""

        FLAT = "flat"
        OFFICE = "office"
        SHOP = "shop"
        BOOTH = "booth"
        PLANT = "plant"

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    building = models.ForeignKey(Building, on_delete=models.PROTECT, related_name="units")
    code = models.CharField(max_length=16)
    floor = models.SmallIntegerField(default=0)
    position = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=8, choices=Kind.choices)

    class Meta:
        db_table = "unit"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["building", "code"], name="unit_code"),
            models.CheckConstraint(
                condition=Q(kind__in=["flat", "office", "shop", "booth", "plant"]), name="unit_kind"
            ),
        ]


class MeteringPoint(models.Model):
    """A place where energy is measured; points form a tree from the feeder down."""

    class Role(models.TextChoices):
        """Where in the tree: what comes in, what is handed out, what is shared."""

        SUPPLY = "supply"
        FEEDER = "feeder"
        COMMON = "common"
        SUB = "sub"

    class Source(models.TextChoices):
        """Where the energy comes from."""

        GRID = "grid"
        GENERATOR = "generator"
        OTHER = "other"

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    unit = models.ForeignKey(Unit, on_delete=models.PROTECT, null=True, related_name="points")
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="children")
    code = models.CharField(max_length=24)
    role = models.CharField(max_length=8, choices=Role.choices)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.GRID)

    class Meta:
        db_table = "metering_point"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property", "code"], name="metering_point_code"),
            models.CheckConstraint(
                condition=Q(role__in=["supply", "feeder", "common", "sub"]), name="point_role"
            ),
            models.CheckConstraint(
                condition=Q(source__in=["grid", "generator", "other"]), name="point_source"
            ),
            models.CheckConstraint(condition=~Q(parent=F("id")), name="point_not_own_parent"),
        ]


class Meter(models.Model):
    """A device. Its registers count Wh modulo ``modulus_wh``; ``multiplier`` is the CT × VT ratio."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    serial = models.CharField(max_length=32, unique=True)
    model = models.CharField(max_length=60, blank=True)
    #: By which driver of the head-end it is reached, and heard: a word of `core.drivers`.
    driver = models.CharField(max_length=24, default="mqtt_senml")
    multiplier = models.PositiveIntegerField(default=1)
    modulus_wh = models.BigIntegerField(default=1_000_000_000)
    #: More than this cannot flow through the device: the plausibility bound of VEE.
    max_power_w = models.BigIntegerField(default=25_000)
    has_relay = models.BooleanField(default=True)
    expected_period_s = models.PositiveIntegerField(default=900)

    class Meta:
        db_table = "meter"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(multiplier__gt=0) & Q(modulus_wh__gt=0) & Q(max_power_w__gt=0),
                name="meter_scale_positive",
            ),
            models.CheckConstraint(condition=Q(driver__in=list(Driver)), name="meter_driver"),
        ]


class Installation(models.Model):
    """A meter's half-open period at a metering point."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="installations")
    metering_point = models.ForeignKey(
        MeteringPoint, on_delete=models.PROTECT, related_name="installations"
    )
    period = DateTimeRangeField()
    start_value_wh = models.BigIntegerField()
    end_value_wh = models.BigIntegerField(null=True)

    class Meta:
        db_table = "installation"
        constraints: ClassVar = [
            no_overlap("meter_in_one_place", "meter_id"),
            no_overlap("one_meter_per_point", "metering_point_id"),
            not_empty("installation_period"),
        ]


class FeedIn(models.Model):
    """For which half-open period a metering point rightly feeds energy in: a roof's solar, a generator.

    Reverse flow there is nobody's deed. Point and row are of one property, which a composite foreign key holds
    (migration 0007).
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    metering_point = models.ForeignKey(
        MeteringPoint, on_delete=models.PROTECT, related_name="feeding_in"
    )
    period = DateTimeRangeField()
    reason = models.CharField(max_length=200)
    said_by = models.CharField(max_length=80)
    ended_by = models.CharField(max_length=80, blank=True, db_default="")

    class Meta:
        db_table = "feed_in"
        constraints: ClassVar = [
            no_overlap("feeds_in_once", "metering_point_id"),
            not_empty("feed_in_period"),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(said_by=""), name="feed_in_is_said_by_somebody"
            ),
        ]


class Concentrator(models.Model):
    """A device that gathers the readings of many meters and sends them in its own name.

    ``edition`` counts the changes of its list of meters, so that whoever remembers the list knows when
    to read it again. What it was last heard to say of itself is the head-end's to write.
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    serial = models.CharField(max_length=32, unique=True)
    name = models.CharField(max_length=60, blank=True)
    edition = models.PositiveIntegerField(default=0)
    last_seen_at = models.DateTimeField(null=True)
    #: How far its clock was ahead of ours then; null where it was never heard.
    clock_drift_s = models.IntegerField(null=True)

    class Meta:
        db_table = "concentrator"


class ConcentratorMeter(models.Model):
    """For which half-open period a concentrator may speak for a meter: of readings by their own instant.

    Both are of the row's property, which composite foreign keys hold (migration 0003).
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    concentrator = models.ForeignKey(Concentrator, on_delete=models.PROTECT, related_name="meters")
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="concentrators")
    period = DateTimeRangeField()

    class Meta:
        db_table = "concentrator_meter"
        constraints: ClassVar = [
            no_overlap("meter_behind_one_concentrator", "meter_id"),
            not_empty("concentrator_meter_period"),
        ]


class Commissioning(models.Model):
    """A device on its way into service: fitted, then heard by the head-end, then looked at by a person.

    ``hear_by`` is until when it has to be heard, by the property's rules at that time. What is looked at is
    read from what the device says (`reports.first_contact`); ``note`` says why somebody ended it regardless.
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    meter = models.OneToOneField(Meter, on_delete=models.PROTECT, related_name="commissioning")
    fitted_at = models.DateTimeField()
    fitted_by = models.CharField(max_length=80)
    hear_by = models.DateTimeField()
    heard_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)
    checked_by = models.CharField(max_length=80, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "commissioning"
        indexes: ClassVar = [
            # Only those that nobody has ended are looked for.
            models.Index(
                fields=["property"], condition=Q(checked_at__isnull=True), name="commissioning_open"
            )
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(hear_by__gte=F("fitted_at")), name="commissioning_has_time"
            ),
            models.CheckConstraint(
                condition=Q(checked_at__isnull=True, checked_by="", note="")
                | (Q(checked_at__isnull=False) & ~Q(checked_by="")),
                name="commissioning_ended_by_somebody",
            ),
            models.CheckConstraint(
                condition=Q(checked_at__isnull=True) | Q(heard_at__isnull=False) | ~Q(note=""),
                name="unheard_is_ended_with_a_reason",
            ),
        ]


class FieldRules(models.Model):
    """How long devices of a property may be silent; without a row the defaults of `core.field_rules` hold."""

    property = models.OneToOneField(Property, on_delete=models.PROTECT)
    hear_within_s = models.PositiveIntegerField()
    concentrator_silent_s = models.PositiveIntegerField()
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "field_rules"


class Customer(models.Model):
    """A person or firm who holds accounts at a property."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    name = models.CharField(max_length=120)
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=32, blank=True)
    language = models.CharField(max_length=12, default="en")

    class Meta:
        db_table = "customer"


class Account(models.Model):
    """A prepaid account: a customer's wallet, or the owner's for a vacant unit or common area."""

    class Kind(models.TextChoices):
        """Who pays: a customer, or the owner while nobody lives there."""

        CUSTOMER = "customer"
        VACANCY = "vacancy"

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    number = models.CharField(max_length=24)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True)
    #: The unit a vacancy account stands for; null for a customer's account.
    unit = models.ForeignKey(Unit, on_delete=models.PROTECT, null=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "account"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property", "number"], name="account_number"),
            models.UniqueConstraint(
                fields=["unit"], condition=Q(kind="vacancy"), name="one_vacancy_account_per_unit"
            ),
            models.CheckConstraint(
                condition=Q(kind="customer", customer__isnull=False)
                | Q(kind="vacancy", customer__isnull=True, unit__isnull=False),
                name="account_has_its_payer",
            ),
        ]


class Tenancy(models.Model):
    """A customer's half-open period in a unit, on one account."""

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    unit = models.ForeignKey(Unit, on_delete=models.PROTECT, related_name="tenancies")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="tenancies")
    period = DateTimeRangeField()

    class Meta:
        db_table = "tenancy"
        constraints: ClassVar = [
            no_overlap("one_tenancy_at_a_time", "unit_id"),
            not_empty("tenancy_period"),
        ]


class MeterAssignment(models.Model):
    """Whose energy a meter counts: the account that pays, for a half-open period.

    The closing register of one assignment is the opening register of the next, so that no
    kilowatt-hour is ever nobody's.
    """

    property = models.ForeignKey(Property, on_delete=models.PROTECT)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="assignments")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="assignments")
    period = DateTimeRangeField()
    start_value_wh = models.BigIntegerField()
    end_value_wh = models.BigIntegerField(null=True)

    class Meta:
        db_table = "meter_assignment"
        constraints: ClassVar = [
            no_overlap("meter_pays_one_account", "meter_id"),
            not_empty("assignment_period"),
            models.CheckConstraint(
                condition=Q(period__upper_inf=True, end_value_wh__isnull=True)
                | Q(period__upper_inf=False, end_value_wh__isnull=False),
                name="closed_assignment_has_register",
            ),
        ]
