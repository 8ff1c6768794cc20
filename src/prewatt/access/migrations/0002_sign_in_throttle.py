"""Counts failed sign-ins, for all processes at once."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """One row for each bucket; old ones are swept away by later tries."""

    dependencies: ClassVar = [("access", "0001_initial")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="SignInThrottle",
            fields=[
                ("bucket", models.CharField(max_length=80, primary_key=True, serialize=False)),
                ("tries", models.PositiveIntegerField()),
                ("last_at", models.DateTimeField(db_index=True)),
                ("wait_until", models.DateTimeField()),
            ],
            options={"db_table": "sign_in_throttle"},
        )
    ]
