"""Archives months of any size, and lets a purchaser keep their own alone: ``sql/0011_archive_chain.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0011_archive_chain.sql"


class Migration(migrations.Migration):
    """Plain SQL; whose counts go back how far is in tables of ``billing``."""

    dependencies: ClassVar = [
        ("mdm", "0010_read_by_hand"),
        ("billing", "0001_initial"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
