"""Charges readings that an operator enters in a function of the database: ``sql/0007_by_hand.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0007_by_hand.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [
        ("billing", "0006_rebates"),
        ("ledger", "0004_days_and_debts"),
        ("mdm", "0004_rests"),
        ("supply", "0001_initial"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
