"""Looks and refusals of who may not read what bounds them: ``sql/0003_narrow_looks.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_narrow_looks.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("oversight", "0002_letters"), ("ledger", "0013_no_future")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
