"""Adds the columns of full tariffs from ``sql/0002_full_tariffs.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_full_tariffs.sql"


class Migration(migrations.Migration):
    """Plain SQL: these tables have no models."""

    dependencies: ClassVar = [("mdm", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
