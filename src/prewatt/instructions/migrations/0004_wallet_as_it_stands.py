"""A wallet in a meter begins with what its account has: ``sql/0004_wallet_as_it_stands.sql``."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_wallet_as_it_stands.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0003_turns'),
    ]

    operations = [
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
