"""Lets each recharge of a set say in the audit which request it came from: ``sql/0009_origins.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0009_origins.sql"


class Migration(migrations.Migration):
    """Plain SQL, after the audit has the columns."""

    dependencies: ClassVar = [("vending", "0008_one_write"), ("audit", "0002_origins")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
