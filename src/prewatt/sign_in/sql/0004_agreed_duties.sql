-- A duty at a property comes of a proposal that was agreed to in this very transaction
-- (approvals/sql/0002_ladders.sql). SQLSTATE PW001 with the word of grant_duty where it cannot be given any more:
-- person (suspended or gone), held, line (they hold what nobody may hold beside it), organisation.
CREATE FUNCTION make_duty(wanted bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    made bigint;
    refused text;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF public.must_be_agreed('access.duty', p.property_id, p.subject) IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another duty was agreed to';
    END IF;
    SELECT g.grant_id, g.refusal INTO made, refused
    FROM public.grant_duty((p.effect ->> 'person')::bigint, p.effect ->> 'duty', p.property_id, NULL, NULL,
                           NULL, p.made_by, at) g;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = refused;
    END IF;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION make_duty FROM PUBLIC;
