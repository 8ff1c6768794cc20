"""Lets two people change a property's supply rules: ``sql/0006_rules_by_two.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_rules_by_two.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute the function is said by ``walls.py``."""

    dependencies: ClassVar = [("supply", "0005_orders_of_decisions")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
