"""Days, gaps, requests and bulks, and the ladder of bulks: ``sql/0001_fleet.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0001_fleet.sql"


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("approvals", "0004_one_agreement_one_effect"),
        ("estate", "0005_drivers"),
        ("mdm", "0014_radio"),
    ]

    operations = [
        migrations.CreateModel(
            name="FleetDay",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "property_id",
                        "day",
                        "meter_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("day", models.DateField()),
                ("meter_id", models.BigIntegerField()),
                ("stored", models.IntegerField()),
                ("promised", models.IntegerField()),
            ],
            options={
                "db_table": "fleet_day",
            },
        ),
        migrations.CreateModel(
            name="FleetBulk",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("kind", models.SmallIntegerField()),
                ("chosen", models.JSONField()),
                ("meters", models.IntegerField()),
                ("proposal_id", models.BigIntegerField()),
                ("made_by", models.CharField(max_length=80)),
                ("reason", models.CharField(max_length=400)),
                ("begun_at", models.DateTimeField()),
                ("per_s", models.PositiveSmallIntegerField()),
                ("per_gateway_min", models.PositiveSmallIntegerField()),
                ("bound_percent", models.PositiveSmallIntegerField()),
                ("state", models.SmallIntegerField(db_default=1)),
                ("state_at", models.DateTimeField()),
                ("state_by", models.CharField(db_default="", max_length=80)),
                ("used_to", models.DateTimeField()),
            ],
            options={
                "db_table": "fleet_bulk",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", 1)), fields=["id"], name="fleet_bulk_running"
                    ),
                    models.Index(fields=["property_id", "begun_at"], name="fleet_bulk_by_time"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("per_s__range", (1, 200)),
                            ("per_gateway_min__range", (1, 6000)),
                            ("bound_percent__range", (1, 100)),
                        ),
                        name="fleet_bulk_is_paced",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="FleetLook",
            fields=[
                ("meter_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("property_id", models.BigIntegerField()),
                ("looked_to", models.DateTimeField()),
                ("last_at", models.DateTimeField(null=True)),
                ("next_at", models.DateTimeField()),
                ("stored", models.IntegerField(db_default=0)),
                ("promised", models.IntegerField(db_default=0)),
            ],
            options={
                "db_table": "fleet_look",
                "indexes": [
                    models.Index(fields=["next_at"], name="fleet_look_due"),
                    models.Index(fields=["property_id"], name="fleet_look_by_place"),
                ],
            },
        ),
        migrations.CreateModel(
            name="FleetTotal",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "property_id",
                        "day",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("day", models.DateField()),
                ("devices", models.IntegerField(db_default=0)),
                ("complete", models.IntegerField(db_default=0)),
                ("silent", models.IntegerField(db_default=0)),
                ("stored", models.BigIntegerField(db_default=0)),
                ("promised", models.BigIntegerField(db_default=0)),
                ("is_stale", models.BooleanField(db_default=True)),
                ("counted_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "fleet_total",
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_stale", True)),
                        fields=["counted_at"],
                        name="fleet_total_stale",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="MeterGap",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("meter_id", models.BigIntegerField()),
                ("from_at", models.DateTimeField()),
                ("to_at", models.DateTimeField()),
                ("found_missing", models.IntegerField()),
                ("missing", models.IntegerField()),
                ("found_at", models.DateTimeField()),
                ("asked", models.PositiveSmallIntegerField(db_default=0)),
                ("asked_at", models.DateTimeField(null=True)),
                ("answered", models.PositiveSmallIntegerField(db_default=0)),
                ("next_at", models.DateTimeField(null=True)),
                ("state", models.SmallIntegerField(db_default=1)),
                ("closed_at", models.DateTimeField(null=True)),
                ("reason", models.CharField(blank=True, db_default="", max_length=24)),
            ],
            options={
                "db_table": "meter_gap",
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_at__isnull", False)),
                        fields=["next_at"],
                        name="meter_gap_due",
                    ),
                    models.Index(fields=["property_id", "to_at"], name="meter_gap_by_place"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("meter_id", "from_at", "to_at"), name="one_gap"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("from_at__lt", models.F("to_at"))),
                        name="meter_gap_lasts",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("closed_at__isnull", True), ("reason", ""), ("state", 1)),
                            models.Q(("closed_at__isnull", False), ("missing", 0), ("state", 2)),
                            models.Q(
                                ("closed_at__isnull", False),
                                ("state", 3),
                                models.Q(("reason", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="meter_gap_ends_with_a_reason",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="MeterRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("meter_id", models.BigIntegerField()),
                ("kind", models.SmallIntegerField()),
                ("state", models.SmallIntegerField(db_default=1)),
                ("bulk_id", models.BigIntegerField(null=True)),
                ("gap_id", models.BigIntegerField(null=True)),
                ("gateway", models.CharField(blank=True, max_length=60)),
                ("from_at", models.DateTimeField(null=True)),
                ("to_at", models.DateTimeField(null=True)),
                ("move_s", models.IntegerField(null=True)),
                ("made_at", models.DateTimeField()),
                ("made_by", models.CharField(max_length=80)),
                ("reason", models.CharField(max_length=400)),
                ("expires_at", models.DateTimeField()),
                ("tries", models.PositiveSmallIntegerField(db_default=0)),
                ("next_try_at", models.DateTimeField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("result", models.CharField(blank=True, db_default="", max_length=24)),
                ("register_wh", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "meter_request",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", [1, 2])),
                        fields=["bulk_id", "next_try_at"],
                        name="request_due",
                    ),
                    models.Index(fields=["bulk_id", "state"], name="request_of_bulk"),
                    models.Index(fields=["bulk_id", "sent_at"], name="request_pace"),
                    models.Index(fields=["meter_id", "made_at"], name="request_by_meter"),
                    models.Index(fields=["property_id", "made_at"], name="request_by_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("gap_id__isnull", False), ("state__in", [1, 2])),
                        fields=("gap_id",),
                        name="one_backfill",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("bulk_id__isnull", False)),
                        fields=("bulk_id", "meter_id"),
                        name="request_once_in_a_bulk",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", [1, 2, 3, 4, 5])), name="request_cuts_none"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", True), ("state__in", [1, 2])),
                            models.Q(
                                ("ended_at__isnull", False),
                                ("next_try_at__isnull", True),
                                ("state__in", [3, 4, 5, 6]),
                            ),
                            _connector="OR",
                        ),
                        name="request_ends",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", 2), _negated=True),
                            models.Q(("from_at__isnull", False), ("to_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="request_has_its_span",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", 3), _negated=True),
                            ("move_s__isnull", False),
                            _connector="OR",
                        ),
                        name="request_has_its_seconds",
                    ),
                ],
            },
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
