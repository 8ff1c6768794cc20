"""What somebody found who was sent to a case: added to it while it is open, and never changed."""

import django.db.models.deletion
from django.db import migrations, models

GUARDS = """
CREATE FUNCTION tamper_note_fits() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.tamper_case c
                   WHERE c.id = NEW.case_id AND c.property_id = NEW.property_id AND c.state <> 3) THEN
        RAISE check_violation USING MESSAGE = 'a note belongs to an open case of its own property';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tamper_note_fits BEFORE INSERT ON tamper_note FOR EACH ROW EXECUTE FUNCTION tamper_note_fits();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('tamper', '0003_versions_and_clocks'),
    ]

    operations = [
        migrations.CreateModel(
            name='TamperNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('noted_at', models.DateTimeField()),
                ('noted_by', models.CharField(max_length=80)),
                ('text', models.CharField(max_length=400)),
                ('case', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='tamper.tampercase')),
            ],
            options={
                'db_table': 'tamper_note',
            },
        ),
        migrations.RunSQL(GUARDS, reverse_sql="DROP TRIGGER tamper_note_fits ON tamper_note; DROP FUNCTION tamper_note_fits();"),
    ]
