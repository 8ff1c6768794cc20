-- What proves a person is taken up, used and given up by these functions alone; their owner is a role that
-- nobody can become (walls.PENS). A refusal is a word that is returned, with nothing done. Whoever has a
-- factor proves it before anything about their factors changes: each function asks for a step-up of that
-- person for just that deed.

CREATE FUNCTION has_factor(person bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.second_factor f WHERE f.user_id = person)
        OR EXISTS (SELECT FROM public.passkey p WHERE p.user_id = person AND p.removed_at IS NULL)
$$;

-- Whoever decides and whoever looks after them signs in with a second factor.
CREATE FUNCTION needs_factor(person bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.duty_grant g
                   WHERE g.user_id = person AND g.ended_at IS NULL
                     AND g.duty IN ('administrator', 'auditor'))
$$;

-- Uses up a step-up for a deed on oneself; `about` says on what.
CREATE FUNCTION own_deed(step bigint, person bigint, deed text, about text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(public.use_step_up(
        step, person, public.deed_digest(deed, sha256(convert_to(about, 'UTF8')))), false);
END $$;

-- A challenge for this person's passkeys; NULL where they asked for fifty within five minutes.
CREATE FUNCTION ask_passkey(person bigint, what text, about bytea) RETURNS bytea
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nonce CONSTANT bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    made CONSTANT bytea := sha256(
        convert_to(concat_ws(chr(10), what, person, ''), 'UTF8') || about || nonce);
BEGIN
    DELETE FROM public.passkey_challenge c
    WHERE c.user_id = person AND c.issued_at < clock_timestamp() - interval '1 hour';
    IF (SELECT count(*) >= 50 FROM public.passkey_challenge c
        WHERE c.user_id = person AND c.issued_at > clock_timestamp() - interval '5 minutes') THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.passkey_challenge (challenge, user_id, purpose, digest)
    VALUES (made, person, what, about);
    RETURN made;
END $$;

CREATE FUNCTION take_challenge(asked bytea, person bigint, what text, about bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.passkey_challenge c SET used_at = clock_timestamp()
    WHERE c.challenge = asked AND c.user_id = person AND c.purpose = what AND c.digest = about
      AND c.used_at IS NULL AND c.issued_at > clock_timestamp() - interval '5 minutes';
    RETURN FOUND;
END $$;

-- Codes of whoever takes up their first factor; kept by who has some left.
CREATE FUNCTION keep_first_codes(person bigint, codes bytea[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.recovery_code (user_id, digest)
    SELECT person, unnest(codes)
    WHERE NOT EXISTS (SELECT FROM public.recovery_code r
                      WHERE r.user_id = person AND r.used_at IS NULL AND r.replaced_at IS NULL)
$$;

-- Refusals: many (ten at most), name, challenge, step_up, known. `step` is NULL for a first factor.
CREATE FUNCTION add_passkey(
    person bigint, label text, host text, credential bytea, key bytea, count bigint, synced boolean,
    how text, asked bytea, codes bytea[], step bigint
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person AND u.is_active FOR UPDATE;
    refusal := CASE
        WHEN NOT FOUND THEN 'unknown'
        WHEN btrim(label) = '' THEN 'name'
        WHEN (SELECT count(*) >= 10 FROM public.passkey p
              WHERE p.user_id = person AND p.removed_at IS NULL) THEN 'many'
        WHEN EXISTS (SELECT FROM public.passkey p WHERE p.credential_id = credential) THEN 'known'
        WHEN NOT public.take_challenge(asked, person, 'add', '') THEN 'challenge'
        WHEN public.has_factor(person)
             AND NOT public.own_deed(step, person, 'passkey.add', encode(asked, 'hex')) THEN 'step_up'
        END;
    IF refusal IS NULL THEN
        PERFORM public.keep_first_codes(person, codes) WHERE NOT public.has_factor(person);
        INSERT INTO public.passkey (user_id, name, site, credential_id, public_key, sign_count, is_synced,
                                    ways, removed_why)
        VALUES (person, btrim(label), host, credential, key, count, synced, how, '');
    END IF;
    RETURN refusal;
END $$;

-- What a signature that the web has checked is good for: a step-up for a deed, its id; or the sign-in.
-- A count that does not grow takes the passkey away, for somebody has a copy of it.
-- Refusals: gone, copied, challenge.
CREATE FUNCTION use_passkey(
    person bigint, which bigint, asked bytea, what text, about bytea, count bigint, synced boolean,
    OUT step bigint, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept public.passkey;
BEGIN
    SELECT * INTO kept FROM public.passkey p
    WHERE p.id = which AND p.user_id = person AND p.removed_at IS NULL FOR UPDATE;
    IF kept.id IS NULL THEN
        refusal := 'gone';
    ELSIF NOT public.take_challenge(asked, person, what, about) THEN
        refusal := 'challenge';
    ELSIF count <= kept.sign_count AND (count <> 0 OR kept.sign_count <> 0) THEN
        UPDATE public.passkey p SET removed_at = clock_timestamp(), removed_why = 'copied'
        WHERE p.id = which;
        refusal := 'copied';
    ELSE
        UPDATE public.passkey p
        SET sign_count = count, is_synced = synced, used_at = clock_timestamp() WHERE p.id = which;
        IF what = 'deed' THEN
            INSERT INTO public.step_up (user_id, digest) VALUES (person, about) RETURNING id INTO step;
        END IF;
    END IF;
END $$;

-- Refusals: gone, last, step_up.
CREATE FUNCTION remove_passkey(person bigint, which bigint, step bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person FOR UPDATE;
    IF NOT EXISTS (SELECT FROM public.passkey p
                   WHERE p.id = which AND p.user_id = person AND p.removed_at IS NULL) THEN
        RETURN 'gone';
    ELSIF public.needs_factor(person)
          AND NOT EXISTS (SELECT FROM public.second_factor f WHERE f.user_id = person)
          AND NOT EXISTS (SELECT FROM public.passkey p
                          WHERE p.user_id = person AND p.removed_at IS NULL AND p.id <> which) THEN
        RETURN 'last';
    ELSIF NOT public.own_deed(step, person, 'passkey.remove', which::text) THEN
        RETURN 'step_up';
    END IF;
    UPDATE public.passkey p SET removed_at = clock_timestamp(), removed_why = 'owner' WHERE p.id = which;
    RETURN NULL;
END $$;

-- An app's secret, sealed. Refusals: unknown, enrolled, step_up. `step` is NULL for a first factor.
CREATE FUNCTION take_up_app(
    person bigint, sealed bytea, at timestamptz, seen_step bigint, codes bytea[], step bigint
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person AND u.is_active FOR UPDATE;
    refusal := CASE
        WHEN NOT FOUND THEN 'unknown'
        WHEN EXISTS (SELECT FROM public.second_factor f WHERE f.user_id = person) THEN 'enrolled'
        WHEN public.has_factor(person) AND NOT public.own_deed(step, person, 'app.take_up', '')
            THEN 'step_up' END;
    IF refusal IS NULL THEN
        PERFORM public.keep_first_codes(person, codes) WHERE NOT public.has_factor(person);
        INSERT INTO public.second_factor (user_id, sealed_secret, enrolled_at, last_step)
        VALUES (person, sealed, at, seen_step);
    END IF;
    RETURN refusal;
END $$;

-- Refusals: none, last, step_up.
CREATE FUNCTION drop_app(person bigint, step bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person FOR UPDATE;
    IF NOT EXISTS (SELECT FROM public.second_factor f WHERE f.user_id = person) THEN
        RETURN 'none';
    ELSIF public.needs_factor(person)
          AND NOT EXISTS (SELECT FROM public.passkey p
                          WHERE p.user_id = person AND p.removed_at IS NULL) THEN
        RETURN 'last';
    ELSIF NOT public.own_deed(step, person, 'app.drop', '') THEN
        RETURN 'step_up';
    END IF;
    DELETE FROM public.second_factor f WHERE f.user_id = person;
    RETURN NULL;
END $$;

-- Ten new codes in the place of all older ones. Refusals: none (no factor they would stand in for), step_up.
CREATE FUNCTION make_recovery_codes(person bigint, codes bytea[], step bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person FOR UPDATE;
    IF NOT public.has_factor(person) THEN
        RETURN 'none';
    ELSIF NOT public.own_deed(step, person, 'recovery.make', '') THEN
        RETURN 'step_up';
    END IF;
    UPDATE public.recovery_code r SET replaced_at = clock_timestamp()
    WHERE r.user_id = person AND r.used_at IS NULL AND r.replaced_at IS NULL;
    INSERT INTO public.recovery_code (user_id, digest) SELECT person, unnest(codes);
    RETURN NULL;
END $$;

-- One code has one digest under each key; which of them was kept is found here.
CREATE FUNCTION use_recovery_code(person bigint, digests bytea[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.recovery_code r SET used_at = clock_timestamp()
    WHERE r.user_id = person AND r.digest = ANY (digests) AND r.used_at IS NULL
      AND r.replaced_at IS NULL;
    RETURN FOUND;
END $$;

CREATE FUNCTION recovery_codes_left(person bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FROM public.recovery_code r
    WHERE r.user_id = person AND r.used_at IS NULL AND r.replaced_at IS NULL
$$;

-- A lost factor: a recovery code asks for another one, which is good a day later and for a week, so that
-- whoever still has the factor is told in time. Refusals: waiting, code.
CREATE FUNCTION ask_new_factor(person bigint, digests bytea[], OUT good_from timestamptz, OUT refusal text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person FOR UPDATE;
    UPDATE public.new_factor n SET ended_at = clock_timestamp()
    WHERE n.user_id = person AND n.ended_at IS NULL
      AND n.good_from < clock_timestamp() - interval '7 days';
    IF EXISTS (SELECT FROM public.new_factor n WHERE n.user_id = person AND n.ended_at IS NULL) THEN
        refusal := 'waiting';
    ELSIF NOT public.use_recovery_code(person, digests) THEN
        refusal := 'code';
    ELSE
        INSERT INTO public.new_factor (user_id, good_from)
        VALUES (person, clock_timestamp() + interval '24 hours')
        RETURNING new_factor.good_from INTO good_from;
    END IF;
END $$;

-- What stands stays: that needs no proof.
CREATE FUNCTION keep_factor(person bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.new_factor n SET ended_at = clock_timestamp()
    WHERE n.user_id = person AND n.ended_at IS NULL;
    RETURN FOUND;
END $$;

-- Takes every factor and every code away, after the wait; the person takes up a first one again.
-- Refusals: none, early.
CREATE FUNCTION begin_anew(person bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waits public.new_factor;
BEGIN
    PERFORM FROM public.app_user u WHERE u.id = person FOR UPDATE;
    SELECT * INTO waits FROM public.new_factor n
    WHERE n.user_id = person AND n.ended_at IS NULL
      AND n.good_from > clock_timestamp() - interval '7 days';
    IF waits.id IS NULL THEN
        RETURN 'none';
    ELSIF waits.good_from > clock_timestamp() THEN
        RETURN 'early';
    END IF;
    UPDATE public.new_factor n SET ended_at = clock_timestamp() WHERE n.id = waits.id;
    DELETE FROM public.second_factor f WHERE f.user_id = person;
    UPDATE public.passkey p SET removed_at = clock_timestamp(), removed_why = 'anew'
    WHERE p.user_id = person AND p.removed_at IS NULL;
    UPDATE public.recovery_code r SET replaced_at = clock_timestamp()
    WHERE r.user_id = person AND r.used_at IS NULL AND r.replaced_at IS NULL;
    RETURN NULL;
END $$;

-- One's own password. Refusals: digest (no Argon2), step_up.
CREATE FUNCTION change_password(person bigint, digest text, step bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF digest IS NULL OR digest NOT LIKE 'argon2$argon2id$%' THEN
        RETURN 'digest';
    ELSIF NOT public.own_deed(step, person, 'password.change', '') THEN
        RETURN 'step_up';
    END IF;
    UPDATE public.app_user u SET password = digest WHERE u.id = person AND u.is_active;
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION has_factor, needs_factor, own_deed, ask_passkey, take_challenge, keep_first_codes,
    add_passkey, use_passkey, remove_passkey, take_up_app, drop_app, make_recovery_codes, use_recovery_code,
    recovery_codes_left, ask_new_factor, keep_factor, begin_anew, change_password FROM PUBLIC;
