"""A debt is closed when nothing is left of it: ``sql/0003_closed_when_paid.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_closed_when_paid.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [("debts", "0002_let_shortfall"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
