"""Money moves without a payment only as others agreed to: ``sql/0014_agreed_money.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0014_agreed_money.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [("ledger", "0013_no_future"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
