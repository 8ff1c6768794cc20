"""Lets a share of a recharge take, and never give: ``sql/0007_recovery_takes.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0007_recovery_takes.sql"


class Migration(migrations.Migration):
    """Plain SQL: a constraint."""

    dependencies: ClassVar = [("ledger", "0006_pen_of_many")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
