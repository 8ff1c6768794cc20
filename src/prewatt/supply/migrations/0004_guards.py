"""Lets the database hold the brake, the steps of orders and holds: ``sql/0004_guards.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_guards.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute the functions is said by ``walls.py``."""

    dependencies: ClassVar = [
        ("supply", "0003_cut_supplies"),
        ("ledger", "0007_recovery_takes"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
