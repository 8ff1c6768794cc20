"""Adds the two statements of a set of recharges: ``sql/0003_sets.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_sets.sql"


class Migration(migrations.Migration):
    """Plain SQL; both run with the rights of who calls them."""

    dependencies: ClassVar = [
        ("vending", "0002_refunds"),
        ("ledger", "0006_pen_of_many"),
        ("supply", "0002_orders_with_read_back"),
        ("notify", "0002_quiet_hours"),
        ("debts", "0001_initial"),
        ("billing", "0001_initial"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
