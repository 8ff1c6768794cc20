"""A property's policy of debts is what was agreed to: ``sql/0004_agreed_policy.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_agreed_policy.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [
        ("debts", "0003_closed_when_paid"),
        ("approvals", "0004_one_agreement_one_effect"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
