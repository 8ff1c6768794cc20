"""Holds payments to known ways and to times with a date: ``sql/0007_payments_of_now.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0007_payments_of_now.sql"


class Migration(migrations.Migration):
    """Plain SQL: constraints."""

    dependencies: ClassVar = [("vending", "0006_at_once")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
