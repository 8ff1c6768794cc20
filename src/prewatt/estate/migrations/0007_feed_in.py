"""Where energy rightly flows backwards. What was said of a period stays: it ends, and is not rewritten."""

import django.contrib.postgres.constraints
import django.contrib.postgres.fields.ranges
import django.db.models.deletion
from django.db import migrations, models

OF_ONE_PROPERTY = """
ALTER TABLE metering_point ADD CONSTRAINT metering_point_and_property UNIQUE (id, property_id);
ALTER TABLE feed_in ADD CONSTRAINT feed_in_of_the_property
    FOREIGN KEY (metering_point_id, property_id) REFERENCES metering_point (id, property_id);

CREATE FUNCTION feed_in_ends() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT upper_inf(OLD.period) OR upper_inf(NEW.period) OR lower(NEW.period) <> lower(OLD.period) THEN
        RAISE check_violation USING MESSAGE = 'a feed-in ends once, and began when it began';
    ELSIF NEW.ended_by = '' THEN
        RAISE check_violation USING MESSAGE = 'a feed-in is ended by somebody';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER feed_in_ends BEFORE UPDATE ON feed_in FOR EACH ROW EXECUTE FUNCTION feed_in_ends();
"""
REVERSED = """
DROP TRIGGER feed_in_ends ON feed_in;
DROP FUNCTION feed_in_ends();
ALTER TABLE feed_in DROP CONSTRAINT feed_in_of_the_property;
ALTER TABLE metering_point DROP CONSTRAINT metering_point_and_property;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('estate', '0006_commissioning'),
    ]

    operations = [
        migrations.CreateModel(
            name='FeedIn',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period', django.contrib.postgres.fields.ranges.DateTimeRangeField()),
                ('reason', models.CharField(max_length=200)),
                ('said_by', models.CharField(max_length=80)),
                ('ended_by', models.CharField(blank=True, db_default='', max_length=80)),
                ('metering_point', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='feeding_in', to='estate.meteringpoint')),
                ('property', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='estate.property')),
            ],
            options={
                'db_table': 'feed_in',
                'constraints': [django.contrib.postgres.constraints.ExclusionConstraint(expressions=[(models.Func(models.F('metering_point_id'), models.F('metering_point_id'), models.Value('[]'), function='int8range'), '&&'), ('period', '&&')], name='feeds_in_once'), models.CheckConstraint(condition=models.Q(('period__isempty', False), ('period__lower_inf', False)), name='feed_in_period'), models.CheckConstraint(condition=models.Q(models.Q(('reason', ''), _negated=True), models.Q(('said_by', ''), _negated=True)), name='feed_in_is_said_by_somebody')],
            },
        ),
        migrations.RunSQL(OF_ONE_PROPERTY, reverse_sql=REVERSED),
    ]
