"""A refund is paid by who asked for it: ``sql/0012_paid_by_whom.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0012_paid_by_whom.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [
        ("vending", "0011_said_of_debts"),
        ("approvals", "0004_one_agreement_one_effect"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
