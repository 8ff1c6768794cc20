"""Lets a link say through which concentrator its device was heard, from ``sql/0007_concentrators.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0007_concentrators.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("mdm", "0006_open_relays")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
