"""Ladders by amount, several approvals, emergencies: ``sql/0002_ladders.sql``."""

from pathlib import Path

import django.db.models.deletion
import prewatt.access.models
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_ladders.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('access', '0004_duties'),
        ('approvals', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='AmountLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('kind', models.CharField(max_length=40)),
                ('above', models.BigIntegerField()),
                ('approvers', models.SmallIntegerField()),
            ],
            options={
                'db_table': 'amount_limit',
            },
        ),
        migrations.CreateModel(
            name='ProposalApproval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('person', models.BigIntegerField()),
                ('step_up_id', models.BigIntegerField()),
                ('approved_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'proposal_approval',
            },
        ),
        migrations.AddField(
            model_name='proposal',
            name='agreed_in',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='proposal',
            name='amount',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='proposal',
            name='done_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='proposal',
            name='needed',
            field=models.SmallIntegerField(default=1),
        ),
        migrations.AddField(
            model_name='proposal',
            name='recorded_at',
            field=models.DateTimeField(db_default=prewatt.access.models.ClockTimestamp()),
        ),
        migrations.AddField(
            model_name='proposal',
            name='review',
            field=models.CharField(blank=True, db_default='', max_length=10),
        ),
        migrations.AddField(
            model_name='proposal',
            name='review_due_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='proposal',
            name='review_note',
            field=models.CharField(blank=True, db_default='', max_length=400),
        ),
        migrations.AddField(
            model_name='proposal',
            name='reviewed_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='proposal',
            name='reviewed_by',
            field=models.CharField(blank=True, db_default='', max_length=80),
        ),
        migrations.AlterField(
            model_name='proposal',
            name='state',
            field=models.CharField(choices=[('open', 'Open'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn'), ('expired', 'Expired'), ('void', 'Void'), ('alone', 'Alone'), ('emergency', 'Emergency')], default='open', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='proposal',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gte', 0), ('needed__gte', 0), ('needed__lte', 5)), name='amount_and_people'),
        ),
        migrations.AddConstraint(
            model_name='proposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'alone'), _negated=True), ('needed', 0), _connector='OR'), name='alone_where_nobody_is_needed'),
        ),
        migrations.AddConstraint(
            model_name='proposal',
            constraint=models.CheckConstraint(condition=models.Q(('reviewed_by', ''), models.Q(('reviewed_by', models.F('made_by')), _negated=True), _connector='OR'), name='nobody_reviews_their_own'),
        ),
        migrations.AddConstraint(
            model_name='amountlimit',
            constraint=models.UniqueConstraint(fields=('property_id', 'kind', 'above'), name='one_rung_each'),
        ),
        migrations.AddConstraint(
            model_name='amountlimit',
            constraint=models.CheckConstraint(condition=models.Q(('above__gte', 0), ('approvers__gte', 0), ('approvers__lte', 5)), name='rungs_go_up_from_nothing'),
        ),
        migrations.AddField(
            model_name='proposalapproval',
            name='proposal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='approvals', to='approvals.proposal'),
        ),
        migrations.AddConstraint(
            model_name='proposalapproval',
            constraint=models.UniqueConstraint(fields=('proposal', 'person'), name='each_approves_once'),
        ),
        migrations.AddConstraint(
            model_name='proposalapproval',
            constraint=models.UniqueConstraint(fields=('step_up_id',), name='a_step_up_approves_once'),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
