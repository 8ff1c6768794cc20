-- Events of who may not read what bounds them: looks and refusals of owners, tenants and installers, and what is
-- refused at the sign-in, before anybody is known.

-- One event of a look (`reads.…`) or a refusal, unless as many of the same person, code and subject stand since
-- ``since``. Whether it was written.
CREATE FUNCTION note_of_narrow(
    place bigint, who text, what text, about text, said jsonb, at timestamptz, since timestamptz, most integer
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF who !~ '^user:[0-9]{1,18}$' OR what !~ '^(reads\.[a-z]{1,40}|access\.refused)$' OR length(about) > 80
       OR length(said::text) > 1000 OR most > 20 OR since > at OR at > public.latest_instant() THEN
        RAISE check_violation USING MESSAGE = 'no look and no refusal';
    END IF;
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
    SELECT place, at, who, what, about, said
    WHERE (SELECT count(*) FROM (
        SELECT FROM public.audit_event e
        WHERE e.property_id = place AND e.actor = who AND e.happened_at > since AND e.happened_at <= at
          AND e.code = what AND e.subject = about LIMIT most) AS known) < most;
    RETURN FOUND;
END $$;

-- That a network was refused at the sign-in again and again: at every property, for nobody knows of which it was. Once in
-- an hour for a network, and of twenty networks in an hour at most.
CREATE FUNCTION note_sign_ins(network text, tries integer, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before CONSTANT text := coalesce(current_setting('prewatt.properties', true), '');
    source CONSTANT text := 'source:' || left(network, 60);
    written boolean;
BEGIN
    IF at > public.latest_instant() THEN
        RAISE check_violation USING MESSAGE = 'no later than by now';
    END IF;
    PERFORM set_config('prewatt.properties', ARRAY(SELECT p.id FROM public.property p)::text, true);
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
    SELECT p.id, at, 'system:sign-in', 'access.sign_in.refused', source, jsonb_build_object('count', tries)
    FROM public.property p
    WHERE NOT EXISTS (
            SELECT FROM public.audit_event e
            WHERE e.property_id = p.id AND e.code = 'access.sign_in.refused' AND e.subject = source
              AND e.happened_at > at - interval '1 hour')
      AND (SELECT count(*) FROM public.audit_event e
           WHERE e.property_id = p.id AND e.code = 'access.sign_in.refused'
             AND e.happened_at > at - interval '1 hour') < 20;
    written := FOUND;
    PERFORM set_config('prewatt.properties', before, true);
    RETURN written;
END $$;
REVOKE ALL ON FUNCTION note_of_narrow, note_sign_ins FROM PUBLIC;
