-- A mandate comes of a proposal that was agreed to in this very transaction (approvals/sql/0002_ladders.sql),
-- and is used up by functions: no login has a right to write one. A key is changed once, by who keeps the
-- machine; a person's file is taken three times at most, by who asked for it. Both within seven days.

CREATE FUNCTION give_mandate(wanted bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    made bigint;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF p.kind IS NULL OR p.kind NOT IN ('signing.key', 'privacy.file')
       OR public.must_be_agreed(p.kind, p.property_id, p.subject) IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another mandate was agreed to';
    END IF;
    INSERT INTO public.mandate (property_id, kind, subject, effect, proposal_id, made_by, approved_by, given_at,
                                expires_at, uses_left)
    VALUES (p.property_id, p.kind, p.subject, p.effect, wanted, p.made_by, p.ended_by, at,
            at + interval '7 days', CASE p.kind WHEN 'privacy.file' THEN 3 ELSE 1 END)
    RETURNING id INTO made;
    RETURN made;
END $$;

-- Whose file was agreed on, once less; NULL where this person asked for none, or it is used up or over.
CREATE FUNCTION use_mandate(wanted bigint, person bigint, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
BEGIN
    UPDATE public.mandate m SET uses_left = m.uses_left - 1, used_at = at
    WHERE m.id = wanted AND m.kind = 'privacy.file' AND m.made_by = 'user:' || person AND m.uses_left > 0
      AND m.expires_at > at AND m.recorded_at > clock_timestamp() - interval '7 days'
      AND public.is_administrator(person, m.property_id)
    RETURNING m.effect INTO change;
    RETURN change;
END $$;
REVOKE ALL ON FUNCTION give_mandate, use_mandate FROM PUBLIC;
