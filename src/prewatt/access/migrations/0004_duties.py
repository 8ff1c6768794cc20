"""Duties that end, and that reach a property, a group or an organisation: ``sql/0004_duties.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_duties.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('access', '0003_second_factor'),
        ('approvals', '0001_initial'),
        ('estate', '0004_taken_serials'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='dutygrant',
            name='one_duty_per_property',
        ),
        migrations.RemoveConstraint(
            model_name='dutygrant',
            name='duty_is_human',
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='customer_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='ended_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='ended_by',
            field=models.CharField(db_default='', default='', max_length=64),
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='granted_by',
            field=models.CharField(db_default='', default='', max_length=64),
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='organisation_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='dutygrant',
            name='property_group_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name='dutygrant',
            name='duty',
            field=models.CharField(choices=[('operator', 'Operator'), ('administrator', 'Administrator'), ('auditor', 'Auditor'), ('tenant', 'Tenant'), ('installer', 'Installer'), ('owner', 'Owner'), ('system', 'System')], max_length=16),
        ),
        migrations.AlterField(
            model_name='dutygrant',
            name='property_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddConstraint(
            model_name='dutygrant',
            constraint=models.CheckConstraint(condition=models.Q(('duty__in', ['operator', 'administrator', 'auditor', 'tenant', 'installer', 'owner'])), name='duty_is_human'),
        ),
        migrations.AddConstraint(
            model_name='dutygrant',
            constraint=models.CheckConstraint(condition=models.Q(('property_id__isnull', True), ('property_group_id__isnull', True), _connector='OR'), name='grant_reaches_one_thing'),
        ),
        migrations.AddConstraint(
            model_name='dutygrant',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('customer_id__isnull', False), ('duty', 'tenant'), ('property_id__isnull', False)), models.Q(models.Q(('duty', 'tenant'), _negated=True), ('customer_id__isnull', True)), _connector='OR'), name='a_tenant_is_a_customer'),
        ),
        migrations.AddConstraint(
            model_name='dutygrant',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at__isnull', True), ('ended_at__gte', models.F('granted_at')), _connector='OR'), name='grant_ends_after_it_began'),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
