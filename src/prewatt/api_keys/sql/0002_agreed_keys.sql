-- A key is made of a proposal that was agreed to in this very transaction (approvals/sql/0002_ladders.sql).
-- SQLSTATE PW001 where its own last day has come before anybody had agreed: expired.
DROP FUNCTION approve_api_key;
CREATE FUNCTION make_api_key(wanted bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    made bigint;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF public.must_be_agreed('api_keys.key', p.property_id, p.subject) IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another key was agreed to';
    ELSIF (p.effect ->> 'expires_at')::timestamptz <= at THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'expired';
    END IF;
    INSERT INTO public.api_key (property_id, public_id, secret_sha256, name, duty, permissions, proposal_id,
                                made_by, approved_by, made_at, expires_at, ended_by)
    VALUES (p.property_id, p.effect ->> 'public_id', decode(p.effect ->> 'secret_sha256', 'hex'),
            p.effect ->> 'name', p.effect ->> 'duty',
            ARRAY(SELECT jsonb_array_elements_text(p.effect -> 'permissions')), wanted, p.made_by,
            p.ended_by, at, (p.effect ->> 'expires_at')::timestamptz, '')
    RETURNING id INTO made;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION make_api_key FROM PUBLIC;
