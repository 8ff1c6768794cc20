"""Adds what charges leave of their exact amounts from ``sql/0004_rests.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_rests.sql"


class Migration(migrations.Migration):
    """Plain SQL: these tables have no models."""

    dependencies: ClassVar = [("mdm", "0003_search_path")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
