import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="SupplyPolicy",
            fields=[
                ("property_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("version", models.PositiveIntegerField(default=1)),
                ("body", models.JSONField()),
                ("brake_since", models.DateTimeField(null=True)),
                ("brake_release_asked_by", models.CharField(blank=True, max_length=80)),
                ("brake_release_asked_at", models.DateTimeField(null=True)),
                ("brake_released_at", models.DateTimeField(null=True)),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "db_table": "supply_policy",
            },
        ),
        migrations.CreateModel(
            name="SupplyDecision",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("account_id", models.BigIntegerField()),
                ("decided_at", models.DateTimeField()),
                ("outcome", models.SmallIntegerField()),
                ("reason", models.CharField(max_length=80)),
                ("gates", models.JSONField(default=list)),
                ("available_micro", models.BigIntegerField()),
                ("reconsider_at", models.DateTimeField(null=True)),
                ("would_have", models.BooleanField(default=False)),
                ("trigger", models.CharField(max_length=40)),
            ],
            options={
                "db_table": "supply_decision",
                "indexes": [
                    models.Index(fields=["account_id", "decided_at"], name="decision_by_account"),
                    models.Index(fields=["property_id", "decided_at"], name="decision_by_time"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True),
                        name="decision_has_reason",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SupplyState",
            fields=[
                ("account_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("property_id", models.BigIntegerField()),
                ("desired", models.SmallIntegerField(default=1)),
                ("protection", models.CharField(blank=True, max_length=16)),
                ("emergency_micro", models.BigIntegerField(default=0)),
                ("fired_mask", models.SmallIntegerField(default=0)),
                ("would_mask", models.SmallIntegerField(default=0)),
                ("level", models.SmallIntegerField(default=0)),
                ("level_fired_at", models.DateTimeField(null=True)),
                ("outcome", models.SmallIntegerField(default=0)),
                ("reason", models.SmallIntegerField(default=0)),
                ("closed_gates", models.SmallIntegerField(default=0)),
                ("held", models.BooleanField(default=False)),
                ("reconsider_at", models.DateTimeField(null=True)),
                ("payment_hold_until", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "supply_state",
                "indexes": [
                    models.Index(
                        condition=models.Q(("reconsider_at__isnull", False)),
                        fields=["reconsider_at"],
                        name="supply_reconsider",
                    ),
                    models.Index(
                        condition=models.Q(("held", True)),
                        fields=["property_id"],
                        name="supply_held",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SupplyOrder",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("account_id", models.BigIntegerField()),
                ("meter_id", models.BigIntegerField()),
                ("kind", models.SmallIntegerField()),
                ("state", models.SmallIntegerField()),
                ("reason", models.CharField(max_length=80)),
                ("decided_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(null=True)),
                ("acknowledged_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("failure", models.CharField(blank=True, max_length=80)),
                (
                    "decision",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="supply.supplydecision"
                    ),
                ),
            ],
            options={
                "db_table": "supply_order",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", [1, 2, 3])),
                        fields=["next_try_at"],
                        name="order_due",
                    ),
                    models.Index(fields=["account_id", "decided_at"], name="order_by_account"),
                    models.Index(fields=["property_id", "decided_at"], name="order_by_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", [1, 2, 3])),
                        fields=("meter_id",),
                        name="one_live_order",
                    )
                ],
            },
        ),
    ]
