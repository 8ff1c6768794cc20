"""Adds a set of recharges in one statement: ``sql/0006_at_once.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_at_once.sql"


class Migration(migrations.Migration):
    """Plain SQL; all three functions run with the rights of who calls them."""

    dependencies: ClassVar = [("vending", "0005_paid_first"), ("ledger", "0012_pen_of_sales")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
