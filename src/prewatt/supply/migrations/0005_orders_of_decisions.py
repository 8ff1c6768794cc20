"""Lets an order stand for a decision of its own account and property, and bounds holds by real time: ``sql/0005_orders_of_decisions.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0005_orders_of_decisions.sql"


class Migration(migrations.Migration):
    """Plain SQL; its functions are triggers."""

    dependencies: ClassVar = [("supply", "0004_guards"), ("ledger", "0013_no_future"), ("estate", "0003_concentrators")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
