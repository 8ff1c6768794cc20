"""Sells a set of recharges in two statements and one write: ``sql/0008_one_write.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0008_one_write.sql"


class Migration(migrations.Migration):
    """Plain SQL. Until the pen has its rights (``walls.py``) the desk sells in several statements."""

    dependencies: ClassVar = [("vending", "0007_payments_of_now"), ("ledger", "0013_no_future")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
