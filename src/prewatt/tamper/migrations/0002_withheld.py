"""What a property does by itself when a case is opened: ``sql/0002_policy.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_policy.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('tamper', '0001_initial'),
        ('supply', '0008_withheld'),
        ('approvals', '0004_one_agreement_one_effect'),
        ('estate', '0005_drivers'),
    ]

    operations = [
        migrations.CreateModel(
            name='TamperPolicy',
            fields=[
                ('property_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('version', models.PositiveIntegerField()),
                ('body', models.JSONField()),
                ('changed_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'tamper_policy',
            },
        ),
        migrations.AddField(
            model_name='tampercase',
            name='responded_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tampercase',
            name='response',
            field=models.SmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='tampercase',
            name='response_kept',
            field=models.CharField(blank=True, db_default='', max_length=12),
        ),
        migrations.AddIndex(
            model_name='tampercase',
            index=models.Index(condition=models.Q(('responded_at', None)), fields=['opened_at'], name='tamper_case_to_respond'),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
