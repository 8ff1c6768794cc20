"""Credit in meters, and its daily comparison with the ledger: ``sql/0002_wallets.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_wallets.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='MeterBalanceCheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('meter_id', models.BigIntegerField()),
                ('account_id', models.BigIntegerField()),
                ('checked_at', models.DateTimeField()),
                ('balance_micro', models.BigIntegerField()),
                ('said_at', models.DateTimeField()),
                ('expected_micro', models.BigIntegerField()),
                ('differs', models.BooleanField()),
            ],
            options={
                'db_table': 'meter_balance_check',
                'indexes': [models.Index(fields=['meter_id', 'checked_at'], name='balance_check_by_meter')],
            },
        ),
        migrations.CreateModel(
            name='MeterWallet',
            fields=[
                ('meter_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('property_id', models.BigIntegerField()),
                ('account_id', models.BigIntegerField(unique=True)),
                ('since', models.DateTimeField()),
                ('seen_seq', models.BigIntegerField()),
                ('total_micro', models.BigIntegerField()),
                ('credit_micro', models.BigIntegerField()),
                ('told_micro', models.BigIntegerField(db_default=0)),
            ],
            options={
                'db_table': 'meter_wallet',
                'indexes': [models.Index(condition=models.Q(('credit_micro__gt', models.F('told_micro'))), fields=['meter_id'], name='meter_wallet_due'), models.Index(fields=['property_id'], name='meter_wallet_by_place')],
                'constraints': [models.CheckConstraint(condition=models.Q(('credit_micro__gte', models.F('told_micro')), ('told_micro__gte', 0)), name='meter_wallet_was_told_no_more')],
            },
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
