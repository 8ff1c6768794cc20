"""Limits for plans put right: ``sql/0003_limits_of_corrections.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_limits_of_corrections.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
