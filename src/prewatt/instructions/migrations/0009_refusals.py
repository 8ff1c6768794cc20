"""Who refuses whatever it is told is not told faster and faster: ``sql/0009_refusals.sql``."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0009_refusals.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0008_begun_anew'),
    ]

    operations = [
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
