"""Signed instructions by their time: ``sql/0002_instructions_by_time.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_instructions_by_time.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("fleet", "0001_initial"), ("instructions", "0002_wallets")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
