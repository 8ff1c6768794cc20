"""Adds the catalogue of archived months and its functions, from ``sql/0005_archive.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0005_archive.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("mdm", "0004_rests")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
