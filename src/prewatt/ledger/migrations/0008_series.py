"""Lets the database count documents without gaps: ``sql/0008_series.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0008_series.sql"


class Migration(migrations.Migration):
    """Plain SQL; whose rights the function has is said by ``walls.py``."""

    dependencies: ClassVar = [("ledger", "0007_recovery_takes")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
