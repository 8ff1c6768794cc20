-- A version of a tariff comes from a proposal that somebody else approves with a second factor, and from
-- nowhere else but an import by the owner: no login has a right to INSERT into tariff_version.

-- Makes the version that was proposed and advances the property's epoch. Refusals: those of
-- approval_refusal, step_up, and void:… where the world has changed since, which ends the proposal:
-- void:draft (another edition was saved), void:version (another version was made), void:begun (its first
-- day has come). approved_at is the instant of the approval.
CREATE FUNCTION approve_tariff(
    wanted bigint, person bigint, step bigint, at timestamptz, OUT version_id bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    plan bigint;
    last integer;
    changed text;
BEGIN
    refusal := public.approval_refusal(wanted, 'billing.tariff', person, at);
    IF refusal IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    -- One approval of a property's prices at a time: what is looked at below stays so until the commit.
    PERFORM FROM public.tariff_draft d WHERE d.id = (p.effect ->> 'draft')::bigint FOR UPDATE;
    SELECT t.id INTO plan FROM public.tariff t
    WHERE t.property_id = p.property_id AND t.code = p.effect ->> 'code';
    SELECT coalesce(max(v.number), 0) INTO last FROM public.tariff_version v WHERE v.tariff_id = plan;
    changed := CASE
        WHEN NOT EXISTS (
            SELECT FROM public.tariff_draft d
            WHERE d.id = (p.effect ->> 'draft')::bigint AND d.property_id = p.property_id
              AND d.edition = (p.effect ->> 'edition')::integer AND d.content = p.effect -> 'document')
            THEN 'draft'
        WHEN last + 1 <> (p.effect ->> 'number')::integer THEN 'version'
        WHEN (p.effect ->> 'valid_from')::timestamptz <= at THEN 'begun' END;
    IF changed IS NOT NULL THEN
        UPDATE public.proposal q SET state = 'void', ended_at = at, answer = changed WHERE q.id = wanted;
        refusal := 'void:' || changed;
        RETURN;
    END IF;
    IF NOT public.use_step_up(step, person, public.deed_digest('approve', p.digest)) THEN
        refusal := 'step_up';
        RETURN;
    END IF;
    UPDATE public.proposal q SET state = 'approved', ended_by = 'user:' || person, ended_at = at
    WHERE q.id = wanted;
    IF plan IS NULL THEN
        INSERT INTO public.tariff (property_id, code, name)
        VALUES (p.property_id, p.effect ->> 'code', p.effect ->> 'name') RETURNING id INTO plan;
    END IF;
    INSERT INTO public.tariff_version (property_id, tariff_id, number, valid_from, content, digest,
                                       made_by, approved_by, approved_at, proposal_id)
    VALUES (p.property_id, plan, last + 1, (p.effect ->> 'valid_from')::timestamptz,
            p.effect -> 'document', decode(p.effect ->> 'digest', 'hex'), p.made_by, 'user:' || person,
            at, wanted)
    RETURNING id INTO version_id;
    UPDATE public.tariff_draft d SET became = last + 1 WHERE d.id = (p.effect ->> 'draft')::bigint;
    INSERT INTO public.tariff_epoch AS e (property_id, epoch) VALUES (p.property_id, 1)
    ON CONFLICT (property_id) DO UPDATE SET epoch = e.epoch + 1;
    PERFORM pg_notify('tariff', p.property_id::text);
END $$;
REVOKE ALL ON FUNCTION approve_tariff FROM PUBLIC;
