"""A draft becomes a version of its own plan only: ``sql/0011_draft_of_its_plan.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0011_draft_of_its_plan.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("billing", "0010_withdrawn_changes")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
