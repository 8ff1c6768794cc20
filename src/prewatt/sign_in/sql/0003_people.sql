-- People come by invitation and go by suspension or the end of their duties. All of it takes rights away or
-- gives none: a duty is given by `grant_duty` alone, and whoever was suspended comes back by another person's
-- hand. An administrator acts at their own property, on nobody of other properties, and on no auditor.

CREATE FUNCTION person_refusal(place bigint, who bigint, actor bigint) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN NOT public.is_administrator(actor, place) THEN 'not_administrator'
        WHEN who = actor THEN 'own'
        WHEN NOT EXISTS (SELECT FROM public.duties_of(who, place)) THEN 'nobody'
        WHEN EXISTS (SELECT FROM public.duties_of(who) d WHERE d.duty = 'auditor') THEN 'auditor'
        WHEN EXISTS (SELECT FROM public.duties_of(who) d
                     WHERE NOT public.is_administrator(actor, d.property_id)) THEN 'elsewhere' END
$$;

-- A sign-in without password and without duty, and a letter to its address. Refusals: not_administrator, mail,
-- name, known (somebody signs in by that address already), step_up.
CREATE FUNCTION invite_person(
    place bigint, mail text, called text, tongue text, actor bigint, step bigint, at timestamptz,
    OUT invitation_id bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bigint;
    ends CONSTANT timestamptz := clock_timestamp() + interval '7 days';
BEGIN
    refusal := CASE
        WHEN NOT public.is_administrator(actor, place) THEN 'not_administrator'
        WHEN mail IS NULL OR mail <> lower(mail) OR mail !~ '^[^@[:space:]]+@[^@[:space:]]+$' THEN 'mail'
        WHEN btrim(coalesce(called, '')) = '' THEN 'name'
        WHEN EXISTS (SELECT FROM public.app_user u WHERE u.email = mail) THEN 'known'
        WHEN NOT public.own_deed(step, actor, 'person.invite', place || ' ' || mail) THEN 'step_up' END;
    IF refusal IS NULL THEN
        INSERT INTO public.app_user (password, email, name, language, is_active, created_at)
        VALUES ('!', mail, btrim(called), tongue, true, at) RETURNING id INTO who;
        INSERT INTO public.invitation (user_id, property_id, invited_by, expires_at)
        VALUES (who, place, 'user:' || actor, ends) RETURNING id INTO invitation_id;
        INSERT INTO public.notice (user_id, code, detail, made_at, due_at)
        SELECT who, 'access.invited', jsonb_build_object(
                   'invitation', invitation_id, 'place', p.name, 'by', u.name,
                   'expires', 'at:' || to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')),
               at, at
        FROM public.property p, public.app_user u WHERE p.id = place AND u.id = actor;
    END IF;
END $$;

-- The link of a letter: its password, once. NULL where the link is not good. Whoever asks is nobody yet, so the
-- property that the link names is all that is looked at.
CREATE FUNCTION accept_invitation(place bigint, token text, digest text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bigint;
    before CONSTANT text := coalesce(current_setting('prewatt.properties', true), '');
BEGIN
    IF digest IS NOT NULL AND digest NOT LIKE 'argon2$argon2id$%' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('prewatt.properties', '{' || place || '}', true);
    SELECT i.user_id INTO who FROM public.invitation i JOIN public.app_user u ON u.id = i.user_id
    WHERE i.property_id = place AND i.token_digest = sha256(convert_to(token, 'UTF8'))
      AND i.accepted_at IS NULL AND i.expires_at > clock_timestamp() AND u.is_active
    FOR UPDATE OF i;
    -- Without a digest it is only asked whether the link is good.
    IF who IS NOT NULL AND digest IS NOT NULL THEN
        UPDATE public.invitation i SET accepted_at = clock_timestamp()
        WHERE i.user_id = who AND i.accepted_at IS NULL;
        UPDATE public.app_user u SET password = digest WHERE u.id = who;
    END IF;
    PERFORM set_config('prewatt.properties', before, true);
    RETURN who;
END $$;

-- Nobody signs in any more, and every session ends, at once. Refusals: those of person_refusal, reason, step_up.
CREATE FUNCTION suspend_person(
    place bigint, who bigint, actor bigint, why text, step bigint, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = who FOR UPDATE;
    refusal := coalesce(public.person_refusal(place, who, actor), CASE
        WHEN btrim(coalesce(why, '')) = '' THEN 'reason'
        WHEN NOT public.own_deed(step, actor, 'person.suspend', place || ' ' || who) THEN 'step_up' END);
    IF refusal IS NULL THEN
        INSERT INTO public.suspension (user_id, property_id, made_by, reason, ended_by)
        VALUES (who, place, 'user:' || actor, btrim(why), '');
        UPDATE public.app_user u SET is_active = false WHERE u.id = who;
        UPDATE public.sign_in s SET ended_at = at, ended_why = 'suspended'
        WHERE s.user_id = who AND s.ended_at IS NULL;
        INSERT INTO public.notice (user_id, code, detail, made_at, due_at)
        VALUES (who, 'access.suspended', '{}', at, at);
    END IF;
    RETURN refusal;
END $$;

-- Refusals: not_administrator, nobody (not suspended here), own (whoever suspended them), step_up.
CREATE FUNCTION resume_person(place bigint, who bigint, actor bigint, step bigint, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept public.suspension;
BEGIN
    SELECT * INTO kept FROM public.suspension s
    WHERE s.user_id = who AND s.property_id = place AND s.ended_at IS NULL FOR UPDATE;
    IF NOT public.is_administrator(actor, place) THEN
        RETURN 'not_administrator';
    ELSIF kept.id IS NULL THEN
        RETURN 'nobody';
    ELSIF kept.made_by = 'user:' || actor THEN
        RETURN 'own';
    ELSIF NOT public.own_deed(step, actor, 'person.resume', place || ' ' || who) THEN
        RETURN 'step_up';
    END IF;
    UPDATE public.suspension s SET ended_by = 'user:' || actor, ended_at = at WHERE s.id = kept.id;
    UPDATE public.app_user u SET is_active = true WHERE u.id = who;
    INSERT INTO public.notice (user_id, code, detail, made_at, due_at)
    VALUES (who, 'access.resumed', '{}', at, at);
    RETURN NULL;
END $$;

-- Ends every grant of this person at this very property; what they did stays to be read. A grant of a group or
-- an organisation is ended where it was given. Refusals: those of person_refusal, wider, reason, step_up.
CREATE FUNCTION end_duties(
    place bigint, who bigint, actor bigint, why text, step bigint, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = who FOR UPDATE;
    refusal := coalesce(nullif(public.person_refusal(place, who, actor), 'elsewhere'), CASE
        WHEN NOT EXISTS (SELECT FROM public.duty_grant g
                         WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL) THEN 'wider'
        WHEN btrim(coalesce(why, '')) = '' THEN 'reason'
        WHEN NOT public.own_deed(step, actor, 'person.leave', place || ' ' || who) THEN 'step_up' END);
    IF refusal IS NULL THEN
        PERFORM public.end_duty(g.id, 'user:' || actor, at) FROM public.duty_grant g
        WHERE g.user_id = who AND g.property_id = place AND g.ended_at IS NULL;
    END IF;
    RETURN refusal;
END $$;

REVOKE ALL ON FUNCTION person_refusal, invite_person, accept_invitation, suspend_person, resume_person,
    end_duties FROM PUBLIC;
