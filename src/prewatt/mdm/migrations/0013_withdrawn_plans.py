"""What a withdrawn change of plan keeps from the archive, which is nothing: ``sql/0013_withdrawn_plans.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0013_withdrawn_plans.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [
        ("mdm", "0012_ahead"),
        ("billing", "0010_withdrawn_changes"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
