-- A version is made of a proposal that was agreed to in this very transaction (approvals/sql/0002_ladders.sql)
-- and of nothing else. Where the world has changed since it was proposed, SQLSTATE PW001 says what has:
-- draft, version, begun.
DROP FUNCTION approve_tariff;
CREATE FUNCTION make_version(wanted bigint, plan_code text, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    plan bigint;
    last integer;
    changed text;
    made bigint;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF public.must_be_agreed('billing.tariff', p.property_id, 'tariff:' || plan_code)
       IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another version was agreed to';
    END IF;
    -- One of a property's prices at a time: what is looked at below stays so until the commit.
    PERFORM FROM public.tariff_draft d WHERE d.id = (p.effect ->> 'draft')::bigint FOR UPDATE;
    SELECT t.id INTO plan FROM public.tariff t
    WHERE t.property_id = p.property_id AND t.code = plan_code;
    SELECT coalesce(max(v.number), 0) INTO last FROM public.tariff_version v WHERE v.tariff_id = plan;
    changed := CASE
        WHEN NOT EXISTS (
            SELECT FROM public.tariff_draft d
            WHERE d.id = (p.effect ->> 'draft')::bigint AND d.property_id = p.property_id
              AND d.code = p.effect ->> 'code' AND d.code = plan_code
              AND d.edition = (p.effect ->> 'edition')::integer AND d.content = p.effect -> 'document')
            THEN 'draft'
        WHEN last + 1 <> (p.effect ->> 'number')::integer THEN 'version'
        WHEN (p.effect ->> 'valid_from')::timestamptz <= at THEN 'begun' END;
    IF changed IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = changed;
    END IF;
    IF plan IS NULL THEN
        INSERT INTO public.tariff (property_id, code, name)
        VALUES (p.property_id, plan_code, p.effect ->> 'name') RETURNING id INTO plan;
    END IF;
    INSERT INTO public.tariff_version (property_id, tariff_id, number, valid_from, content, digest,
                                       made_by, approved_by, approved_at, proposal_id)
    VALUES (p.property_id, plan, last + 1, (p.effect ->> 'valid_from')::timestamptz,
            p.effect -> 'document', decode(p.effect ->> 'digest', 'hex'), p.made_by, p.ended_by, at, wanted)
    RETURNING id INTO made;
    UPDATE public.tariff_draft d SET became = last + 1 WHERE d.id = (p.effect ->> 'draft')::bigint;
    INSERT INTO public.tariff_epoch AS e (property_id, epoch) VALUES (p.property_id, 1)
    ON CONFLICT (property_id) DO UPDATE SET epoch = e.epoch + 1;
    PERFORM pg_notify('tariff', p.property_id::text);
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION make_version FROM PUBLIC;
