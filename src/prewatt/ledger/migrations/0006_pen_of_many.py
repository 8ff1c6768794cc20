"""Lets one set have legs of many actors: ``sql/0006_pen_of_many.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_pen_of_many.sql"


class Migration(migrations.Migration):
    """Plain SQL; who may execute it is said by ``walls.py``."""

    dependencies: ClassVar = [("ledger", "0005_pen")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
