"""Adds what charges by the day and debts need, from ``sql/0004_days_and_debts.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_days_and_debts.sql"


class Migration(migrations.Migration):
    """Plain SQL: these tables have no models."""

    dependencies: ClassVar = [("ledger", "0003_full_tariffs")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
