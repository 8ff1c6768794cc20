"""Lets a link say where the watermark is a person's, not the meter's: ``sql/0010_read_by_hand.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0010_read_by_hand.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("mdm", "0009_archive_lock")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
