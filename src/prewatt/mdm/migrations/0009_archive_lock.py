"""Puts archiving's lock out of the reach of logins: ``sql/0009_archive_lock.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0009_archive_lock.sql"


class Migration(migrations.Migration):
    """Plain SQL; it changes one number in two functions."""

    dependencies: ClassVar = [("mdm", "0008_rejected")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
