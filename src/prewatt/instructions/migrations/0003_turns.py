"""What the head-end asks and writes at each turn: ``sql/0003_turns.sql``."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_turns.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0002_wallets'),
    ]

    operations = [
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
