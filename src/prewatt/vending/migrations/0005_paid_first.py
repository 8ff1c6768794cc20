"""Writes payments before the transfers that they are for: ``sql/0005_paid_first.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0005_paid_first.sql"


class Migration(migrations.Migration):
    """Plain SQL; it runs with the rights of who calls it."""

    dependencies: ClassVar = [("vending", "0004_books_proof"), ("ledger", "0009_pen_of_paid")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
