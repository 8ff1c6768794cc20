"""A version is made of what was agreed to: ``sql/0012_agreed_versions.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0012_agreed_versions.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("billing", "0011_draft_of_its_plan"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
