"""A register remembers how far ahead of full power it is: ``sql/0012_ahead.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0012_ahead.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("mdm", "0011_archive_chain")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
