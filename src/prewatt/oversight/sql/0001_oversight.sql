-- Changes past the program, and what only an auditor writes. The triggers themselves are put on tables by
-- walls.py (NOTED), so that a new table needs one word there.

-- Notes that a statement changed a watched table. As every operation writes its event in its own transaction,
-- forget_explained takes the note back at the end where there is one; what is left nobody has explained.
-- The first argument is the column with the property, empty for a table of no one property.
CREATE FUNCTION note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    places bigint[] := ARRAY[NULL];
    size bigint := 1;
BEGIN
    -- The owner's own migrations say afterwards that they were made (migrate.py).
    IF current_setting('prewatt.migrating', true) = 'yes' AND session_user = (
            SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'audit_event') THEN
        RETURN NULL;
    END IF;
    IF TG_LEVEL = 'STATEMENT' THEN
        EXECUTE 'SELECT count(*) FROM changed' INTO size;
        IF size > 0 AND TG_ARGV[0] <> '' THEN
            EXECUTE format('SELECT array_agg(DISTINCT %I::bigint) FROM changed', TG_ARGV[0]) INTO places;
        END IF;
    ELSIF TG_ARGV[0] <> '' THEN
        places := ARRAY[(to_jsonb(NEW) ->> TG_ARGV[0])::bigint];
    END IF;
    IF size > 0 THEN
        INSERT INTO public.unexplained_change (property_id, table_name, operation, row_count, transaction,
                                               happened_at, login, role, address, program)
        SELECT place, TG_TABLE_NAME, lower(TG_OP), size, pg_current_xact_id()::text::bigint,
               clock_timestamp(), session_user, current_setting('role'),
               coalesce(host(inet_client_addr()), ''), left(current_setting('application_name'), 64)
        FROM unnest(places) AS place
        WHERE NOT EXISTS (SELECT FROM public.unexplained_change u
            WHERE u.transaction = pg_current_xact_id()::text::bigint AND u.table_name = TG_TABLE_NAME
              AND u.operation = lower(TG_OP) AND u.property_id IS NOT DISTINCT FROM place);
    END IF;
    RETURN NULL;
END $$;

-- That somebody looked at something explains no change.
CREATE FUNCTION forget_explained() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.unexplained_change u
    WHERE u.id = NEW.id AND EXISTS (
        SELECT FROM public.audit_event e
        WHERE e.transaction = NEW.transaction AND e.code NOT LIKE 'reads.%'
          AND (NEW.property_id IS NULL OR e.property_id = NEW.property_id));
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER explained AFTER INSERT ON unexplained_change
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forget_explained();

-- Whether a person is an auditor of a property; as approvals ask it of administrators.
CREATE FUNCTION is_auditor(person bigint, place bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.duties_of(person, place) d WHERE d.duty = 'auditor')
$$;

-- Makes a watch, or changes it (wanted), and leaves the event of that. Refusals: not_auditor, unknown.
CREATE FUNCTION save_watch(
    wanted bigint, place bigint, what text, called text, figures jsonb, switched_on boolean, person bigint,
    at timestamptz, OUT watch_id bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former public.audit_watch;
    who CONSTANT text := 'user:' || person;
BEGIN
    IF NOT public.is_auditor(person, place) THEN
        refusal := 'not_auditor';
        RETURN;
    END IF;
    IF wanted IS NULL THEN
        INSERT INTO public.audit_watch (property_id, kind, name, parameters, is_on, made_by, changed_at,
                                        seen_transaction)
        VALUES (place, what, called, figures, switched_on, who, at,
                pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
        RETURNING id INTO watch_id;
    ELSE
        SELECT * INTO former FROM public.audit_watch w
        WHERE w.id = wanted AND w.property_id = place AND w.kind = what FOR UPDATE;
        IF former.id IS NULL THEN
            refusal := 'unknown';
            RETURN;
        END IF;
        watch_id := former.id;
        UPDATE public.audit_watch w
        SET name = called, parameters = figures, is_on = switched_on, made_by = who, changed_at = at
        WHERE w.id = wanted;
    END IF;
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
    VALUES (place, at, who, 'oversight.watch.saved', 'watch:' || watch_id, jsonb_build_object(
        'kind', what,
        'before', CASE WHEN former.id IS NOT NULL THEN jsonb_build_object(
            'name', former.name, 'parameters', former.parameters, 'is_on', former.is_on) END,
        'after', jsonb_build_object('name', called, 'parameters', figures, 'is_on', switched_on)));
END $$;

-- Says that an auditor looked into a finding. Refusals: not_auditor, unknown, note.
CREATE FUNCTION answer_finding(wanted bigint, person bigint, said text, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_there public.watch_finding;
BEGIN
    SELECT * INTO found_there FROM public.watch_finding f WHERE f.id = wanted FOR UPDATE;
    IF found_there.id IS NULL OR found_there.seen_at IS NOT NULL THEN
        RETURN 'unknown';
    ELSIF NOT public.is_auditor(person, found_there.property_id) THEN
        RETURN 'not_auditor';
    ELSIF btrim(coalesce(said, '')) = '' THEN
        RETURN 'note';
    END IF;
    UPDATE public.watch_finding f
    SET seen_by = 'user:' || person, seen_at = at, note = btrim(said) WHERE f.id = wanted;
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
    VALUES (found_there.property_id, at, 'user:' || person, 'oversight.finding.answered',
            'finding:' || wanted, jsonb_build_object('reason', btrim(said)));
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION is_auditor, save_watch, answer_finding FROM PUBLIC;
