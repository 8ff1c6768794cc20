"""A meter's signed release is an event of the audit: ``sql/0010_signed_ends.sql``."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0010_signed_ends.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0009_refusals'),
    ]

    operations = [
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
