-- Some ends of duties take another person: an auditor's, for who is looked at does not send away who looks; one's
-- own; and an administrator's who would leave a single one behind, with nobody to agree with. All others one
-- administrator ends at once, and suspends whoever does harm.

-- Who decides at a property besides somebody, suspended ones left out.
CREATE FUNCTION administrators_beside(place bigint, who bigint) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(DISTINCT g.user_id)::integer FROM public.duty_grant g
    WHERE g.duty = 'administrator' AND g.ended_at IS NULL AND g.user_id <> who
      AND public.is_administrator(g.user_id, place)
$$;

CREATE FUNCTION decides_at(place bigint, who bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.duty_grant g WHERE g.user_id = who AND g.property_id = place
                   AND g.duty = 'administrator' AND g.ended_at IS NULL)
$$;

-- As it was (0003_people.sql), and `others` where it takes another person.
CREATE OR REPLACE FUNCTION end_duties(
    place bigint, who bigint, actor bigint, why text, step bigint, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
BEGIN
    -- Of two who end one another's duties at once the second sees what the first left.
    PERFORM pg_advisory_xact_lock(hashtextextended('duties ' || place, 20));
    PERFORM FROM public.app_user u WHERE u.id = who FOR UPDATE;
    refusal := coalesce(nullif(public.person_refusal(place, who, actor), 'elsewhere'), CASE
        WHEN NOT EXISTS (SELECT FROM public.duty_grant g
                         WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL) THEN 'wider'
        WHEN public.decides_at(place, who) AND public.administrators_beside(place, who) < 2 THEN 'others'
        WHEN btrim(coalesce(why, '')) = '' THEN 'reason'
        WHEN NOT public.own_deed(step, actor, 'person.leave', place || ' ' || who) THEN 'step_up' END);
    IF refusal IS NULL THEN
        PERFORM public.end_duty(g.id, 'user:' || actor, at) FROM public.duty_grant g
        WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL;
    END IF;
    RETURN refusal;
END $$;

-- Ends what was agreed to in this very transaction: every grant of a person at this property, as they were when
-- it was proposed. SQLSTATE PW001 says what has changed: duty; last (nobody would decide here any more).
CREATE FUNCTION end_agreed_duties(place bigint, who bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change CONSTANT jsonb := public.must_be_agreed('access.duty_end', place, 'user:' || who);
    by_whom text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('duties ' || place, 20));
    SELECT p.ended_by INTO by_whom FROM public.proposal p
    WHERE p.property_id = place AND p.kind = 'access.duty_end' AND p.subject = 'user:' || who
      AND p.agreed_in = pg_current_xact_id()::text::bigint;
    IF (SELECT coalesce(jsonb_agg(g.id ORDER BY g.id), '[]') FROM public.duty_grant g
        WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL)
            IS DISTINCT FROM change -> 'grants' THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'duty';
    ELSIF public.decides_at(place, who) AND public.administrators_beside(place, who) < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'last';
    END IF;
    PERFORM public.end_duty(g.id, by_whom, at) FROM public.duty_grant g
    WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL;
END $$;
REVOKE ALL ON FUNCTION administrators_beside, decides_at, end_agreed_duties FROM PUBLIC;
