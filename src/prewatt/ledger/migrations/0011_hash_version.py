"""Names how a posting's hash is made: ``sql/0011_hash_version.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0011_hash_version.sql"


class Migration(migrations.Migration):
    """Plain SQL: a column."""

    dependencies: ClassVar = [("ledger", "0010_books")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
