-- A key comes from a proposal that somebody else approves with a second factor, and from nowhere else: no
-- login has a right to INSERT into api_key. Its secret was shown to the maker once, when it was proposed;
-- what both people agree to holds its SHA-256.

-- Makes the key that was proposed. Refusals: those of approval_refusal, step_up, and void:expired where the
-- key's own last day has come, which ends the proposal.
CREATE FUNCTION approve_api_key(
    wanted bigint, person bigint, step bigint, at timestamptz, OUT key_id bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
BEGIN
    refusal := public.approval_refusal(wanted, 'api_keys.key', person, at);
    IF refusal IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF (p.effect ->> 'expires_at')::timestamptz <= at THEN
        UPDATE public.proposal q SET state = 'void', ended_at = at, answer = 'expired' WHERE q.id = wanted;
        refusal := 'void:expired';
        RETURN;
    END IF;
    IF NOT public.use_step_up(step, person, public.deed_digest('approve', p.digest)) THEN
        refusal := 'step_up';
        RETURN;
    END IF;
    UPDATE public.proposal q SET state = 'approved', ended_by = 'user:' || person, ended_at = at
    WHERE q.id = wanted;
    INSERT INTO public.api_key (property_id, public_id, secret_sha256, name, duty, permissions, proposal_id,
                                made_by, approved_by, made_at, expires_at, ended_by)
    VALUES (p.property_id, p.effect ->> 'public_id', decode(p.effect ->> 'secret_sha256', 'hex'),
            p.effect ->> 'name', p.effect ->> 'duty',
            ARRAY(SELECT jsonb_array_elements_text(p.effect -> 'permissions')), wanted, p.made_by,
            'user:' || person, at, (p.effect ->> 'expires_at')::timestamptz, '')
    RETURNING id INTO key_id;
END $$;

-- Ends a key at once; one administrator is enough to stop a machine. False where there is none to end.
CREATE FUNCTION end_api_key(key bigint, person bigint, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.api_key k SET ended_by = 'user:' || person, ended_at = at
    WHERE k.id = key AND k.ended_at IS NULL AND public.is_administrator(person, k.property_id);
    RETURN FOUND;
END $$;
-- What the key with this public id and this SHA-256 of its secret may do, if it holds at an instant; no row for
-- any other. A use is written down once a minute, so that reading stays reading. The web asks before there is
-- a scope, and can ask for nothing but a key whose secret it was shown.
CREATE FUNCTION use_api_key(shown text, digest bytea, at timestamptz) RETURNS TABLE (
    id bigint, property_id bigint, name varchar, duty varchar, permissions varchar[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT k.id, k.property_id, k.name, k.duty, k.permissions FROM public.api_key k
    WHERE k.public_id = shown AND k.secret_sha256 = digest AND k.ended_at IS NULL AND k.expires_at > at;
    IF FOUND THEN
        UPDATE public.api_key k SET last_used_at = at
        WHERE k.public_id = shown AND (k.last_used_at IS NULL OR k.last_used_at < at - interval '1 minute');
    END IF;
END $$;
REVOKE ALL ON FUNCTION approve_api_key, end_api_key, use_api_key FROM PUBLIC;
