"""The plan of an account is what was agreed to: ``sql/0013_agreed_plans.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0013_agreed_plans.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [
        ("billing", "0012_agreed_versions"),
        ("approvals", "0003_limits_of_corrections"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
