"""The terms of an account are what was agreed to: ``sql/0014_agreed_terms.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0014_agreed_terms.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [
        ("billing", "0013_agreed_plans"),
        ("approvals", "0004_one_agreement_one_effect"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
