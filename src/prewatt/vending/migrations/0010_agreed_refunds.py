"""A refund is paid out as was agreed to: ``sql/0010_agreed_refunds.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0010_agreed_refunds.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [("vending", "0009_origins"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
