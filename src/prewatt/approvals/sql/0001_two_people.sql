-- Two people and a fresh second factor of each, whoever asks: proposals are made and ended by these
-- functions alone. Their owner is a role that nobody can become (walls.PENS); it sees what the caller's
-- scope shows. A refusal is a word that is returned, with nothing done: the caller says it in sentences.

-- What both people agree to. jsonb has one way to be written out, so one effect has one digest.
CREATE FUNCTION proposal_digest(kind text, place bigint, subject text, effect jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to(concat_ws(chr(10), kind, place, subject, effect::text), 'UTF8'))
$$;

-- What a second factor is proved for: one deed (propose, approve) on one such effect.
CREATE FUNCTION deed_digest(deed text, proposed bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to(deed || chr(10), 'UTF8') || proposed)
$$;

CREATE FUNCTION is_administrator(person bigint, place bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM public.duty_grant g JOIN public.app_user u ON u.id = g.user_id
        WHERE g.user_id = person AND g.property_id = place AND g.duty = 'administrator' AND u.is_active)
$$;

-- Uses a step-up up; false where it is another person's, for another deed, used, or five minutes old by
-- the database's own clock.
CREATE FUNCTION use_step_up(step bigint, person bigint, wanted bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.step_up s SET used_at = clock_timestamp()
    WHERE s.id = step AND s.user_id = person AND s.digest = wanted AND s.used_at IS NULL
      AND s.issued_at > clock_timestamp() - interval '5 minutes';
    RETURN FOUND;
END $$;

-- Refusals: not_administrator, reason, step_up, open (one for the same subject waits already).
CREATE FUNCTION make_proposal(
    what text, place bigint, about text, change jsonb, why text, person bigint, step bigint,
    at timestamptz, expires timestamptz, OUT proposal_id bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    proposed CONSTANT bytea := public.proposal_digest(what, place, about, change);
BEGIN
    UPDATE public.proposal p SET state = 'expired', ended_at = p.expires_at
    WHERE p.property_id = place AND p.kind = what AND p.subject = about AND p.state = 'open'
      AND p.expires_at <= at;
    refusal := CASE
        WHEN NOT public.is_administrator(person, place) THEN 'not_administrator'
        WHEN btrim(coalesce(why, '')) = '' THEN 'reason'
        WHEN EXISTS (SELECT FROM public.proposal p WHERE p.property_id = place AND p.kind = what
                     AND p.subject = about AND p.state = 'open') THEN 'open'
        WHEN NOT public.use_step_up(step, person, public.deed_digest('propose', proposed))
            THEN 'step_up' END;
    IF refusal IS NULL THEN
        INSERT INTO public.proposal (property_id, kind, subject, effect, digest, reason, made_by, made_at,
                                     expires_at, state, ended_by, answer)
        VALUES (place, what, about, change, proposed, btrim(why), 'user:' || person, at, expires, 'open',
                '', '')
        RETURNING id INTO proposal_id;
    END IF;
END $$;

-- Why this person may not approve this proposal now, NULL if they may; locks it, and uses nothing up.
-- Refusals: unknown, ended, expired, own, not_administrator.
CREATE FUNCTION approval_refusal(wanted bigint, what text, person bigint, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted AND q.kind = what FOR UPDATE;
    RETURN CASE
        WHEN p.id IS NULL THEN 'unknown'
        WHEN p.state <> 'open' THEN 'ended'
        WHEN p.expires_at <= at OR at < p.made_at THEN 'expired'
        WHEN p.made_by = 'user:' || person THEN 'own'
        WHEN NOT public.is_administrator(person, p.property_id) THEN 'not_administrator' END;
END $$;

-- Ends a proposal: withdrawn by who made it, refused by another administrator, void by whoever finds that
-- the world has changed. Refusals: those of approval_refusal, reason.
CREATE FUNCTION end_proposal(wanted bigint, verdict text, person bigint, why text, at timestamptz)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted FOR UPDATE;
    IF p.id IS NULL THEN
        RETURN 'unknown';
    ELSIF p.state <> 'open' THEN
        RETURN 'ended';
    ELSIF verdict NOT IN ('refused', 'withdrawn') THEN
        RETURN 'unknown';
    ELSIF verdict = 'withdrawn' AND p.made_by <> 'user:' || person THEN
        RETURN 'not_own';
    ELSIF verdict = 'refused' AND p.made_by = 'user:' || person THEN
        RETURN 'own';
    ELSIF NOT public.is_administrator(person, p.property_id) THEN
        RETURN 'not_administrator';
    ELSIF btrim(coalesce(why, '')) = '' THEN
        RETURN 'reason';
    END IF;
    UPDATE public.proposal q
    SET state = verdict, ended_by = 'user:' || person, ended_at = at, answer = btrim(why)
    WHERE q.id = wanted;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION is_administrator, use_step_up, make_proposal, approval_refusal, end_proposal
    FROM PUBLIC;
