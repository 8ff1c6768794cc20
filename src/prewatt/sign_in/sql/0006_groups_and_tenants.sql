-- Groups of properties and the duties that are given by group, by people who administer every one of their
-- properties; and the sign-in of a tenant, which ends with the last account of the customer that they are.

-- The properties of a group, whoever asks.
CREATE FUNCTION places_of_group(which bigint) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(m.property_id ORDER BY m.property_id), '{}')
    FROM public.property_group_member m WHERE m.property_group_id = which
$$;

-- Who holds which duty by a group: what they may do changes with its properties.
CREATE FUNCTION holders_of_group(which bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_array(g.user_id, g.duty) ORDER BY g.user_id, g.duty), '[]')
    FROM public.duty_grant g WHERE g.property_group_id = which AND g.ended_at IS NULL
$$;

-- Makes a group or gives one its name and its properties anew. NULL: the organisation has one of that name.
CREATE FUNCTION write_group(which bigint, organisation bigint, called text, places bigint[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bigint := which;
BEGIN
    IF which IS NULL THEN
        INSERT INTO public.property_group (organisation_id, name) VALUES (organisation, called)
        RETURNING id INTO found;
    ELSE
        UPDATE public.property_group g SET name = called WHERE g.id = which AND g.organisation_id = organisation;
    END IF;
    DELETE FROM public.property_group_member m
    WHERE m.property_group_id = found AND NOT m.property_id = ANY (places);
    INSERT INTO public.property_group_member (property_group_id, property_id, organisation_id)
    SELECT found, each, organisation FROM unnest(places) AS each ON CONFLICT DO NOTHING;
    RETURN found;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;
END $$;

-- Whether who proposed something and everybody who agreed to it administer all of these properties.
CREATE FUNCTION agreed_everywhere(wanted bigint, places bigint[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM unnest(places) AS each, (
            SELECT substr(p.made_by, 6)::bigint AS person FROM public.proposal p WHERE p.id = wanted
            UNION SELECT a.person FROM public.proposal_approval a WHERE a.proposal_id = wanted) AS who
        WHERE NOT public.is_administrator(who.person, each))
$$;

-- A group as it was agreed to in this very transaction: made, or with another name and other properties.
-- SQLSTATE PW001: group (it has changed since, or somebody's duty by it), elsewhere (somebody of those who agreed
-- does not administer every property concerned), name (there is one of that name).
CREATE FUNCTION make_group(wanted bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    which bigint;
    before bigint[];
    after bigint[];
    made bigint;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF public.must_be_agreed('access.group', p.property_id, p.subject) IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another group was agreed to';
    END IF;
    which := (p.effect ->> 'group')::bigint;
    -- Two proposals about groups of one organisation are decided one after the other.
    PERFORM pg_advisory_xact_lock(hashtextextended('property_group', 20));
    before := public.places_of_group(which);
    after := ARRAY(SELECT each::bigint FROM jsonb_array_elements_text(p.effect -> 'places') AS each);
    IF to_jsonb(before) IS DISTINCT FROM p.effect -> 'before' OR cardinality(after) = 0
       OR public.holders_of_group(which) IS DISTINCT FROM p.effect -> 'holders' THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'group';
    END IF;
    IF NOT public.agreed_everywhere(wanted, before || after) THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'elsewhere';
    END IF;
    made := public.write_group(
        which, (SELECT d.organisation_id FROM public.duties_of(substr(p.made_by, 6)::bigint, p.property_id) d),
        p.effect ->> 'name', after);
    IF made IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'name';
    END IF;
    RETURN made;
END $$;

-- As in 0004, and by a group of properties where the proposal names one, with the properties that it had then.
CREATE OR REPLACE FUNCTION make_duty(wanted bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p public.proposal;
    by_group bigint;
    made bigint;
    refused text;
BEGIN
    SELECT * INTO p FROM public.proposal q WHERE q.id = wanted;
    IF public.must_be_agreed('access.duty', p.property_id, p.subject) IS DISTINCT FROM p.effect THEN
        RAISE insufficient_privilege USING MESSAGE = 'another duty was agreed to';
    END IF;
    by_group := (p.effect ->> 'group')::bigint;
    IF by_group IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('property_group', 20));
        IF to_jsonb(public.places_of_group(by_group)) IS DISTINCT FROM p.effect -> 'places' THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'group';
        ELSIF NOT public.agreed_everywhere(wanted, public.places_of_group(by_group)) THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'elsewhere';
        END IF;
    END IF;
    SELECT g.grant_id, g.refusal INTO made, refused
    FROM public.grant_duty((p.effect ->> 'person')::bigint, p.effect ->> 'duty',
                           CASE WHEN by_group IS NULL THEN p.property_id END, by_group, NULL, NULL, p.made_by, at) g;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = refused;
    END IF;
    RETURN made;
END $$;

-- As in 0005_agreed_ends.sql, and a grant by group where the administrator is one at every property of it. An
-- administrator is not sent away alone from a property of it where a single one would be left.
CREATE OR REPLACE FUNCTION end_duties(
    place bigint, who bigint, actor bigint, why text, step bigint, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text;
    ends bigint[];
    reach bigint[];
BEGIN
    -- Groups stand still, and of two who end one another's duties at once the second sees what the first left.
    PERFORM pg_advisory_xact_lock(hashtextextended('property_group', 20));
    PERFORM pg_advisory_xact_lock(hashtextextended('duties ' || place, 20));
    PERFORM FROM public.app_user u WHERE u.id = who FOR UPDATE;
    ends := ARRAY(
        SELECT g.id FROM public.duty_grant g
        WHERE g.user_id = who AND g.ended_at IS NULL AND (
            g.property_id = place
            OR place = ANY (public.places_of_group(g.property_group_id)) AND NOT EXISTS (
                SELECT FROM unnest(public.places_of_group(g.property_group_id)) AS each
                WHERE NOT public.is_administrator(actor, each))));
    reach := ARRAY(
        SELECT unnest(coalesce(nullif(public.places_of_group(g.property_group_id), '{}'), ARRAY[g.property_id]))
        FROM public.duty_grant g WHERE g.id = ANY (ends) AND g.duty = 'administrator');
    refusal := coalesce(nullif(public.person_refusal(place, who, actor), 'elsewhere'), CASE
        WHEN cardinality(ends) = 0 THEN 'wider'
        WHEN EXISTS (SELECT FROM unnest(reach) AS each WHERE public.administrators_beside(each, who) < 2)
            THEN 'others'
        WHEN btrim(coalesce(why, '')) = '' THEN 'reason'
        WHEN NOT public.own_deed(step, actor, 'person.leave', place || ' ' || who) THEN 'step_up' END);
    IF refusal IS NULL THEN
        PERFORM public.end_duty(each, 'user:' || actor, at) FROM unnest(ends) AS each;
    END IF;
    RETURN refusal;
END $$;

-- Whether somebody sells or decides at a property: who may let a tenant see their own account.
CREATE FUNCTION may_link(person bigint, place bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.duties_of(person, place) d WHERE d.duty IN ('administrator', 'operator'))
$$;

-- A tenant's sign-in for one customer: somebody new gets a letter with a link, who signs in already as a tenant
-- is only linked. Refusals: not_staff, mail, name, customer (none here, or none with an open account), away
-- (suspended), and those of grant_duty: held, line, organisation.
CREATE FUNCTION link_tenant(
    place bigint, client bigint, mail text, called text, tongue text, actor bigint, at timestamptz,
    OUT person bigint, OUT is_new boolean, OUT refusal text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    invited bigint;
    ends CONSTANT timestamptz := clock_timestamp() + interval '7 days';
BEGIN
    refusal := CASE
        WHEN NOT public.may_link(actor, place) THEN 'not_staff'
        WHEN mail IS NULL OR mail <> lower(mail) OR mail !~ '^[^@[:space:]]+@[^@[:space:]]+$' THEN 'mail'
        WHEN btrim(coalesce(called, '')) = '' THEN 'name'
        WHEN NOT EXISTS (SELECT FROM public.account a WHERE a.customer_id = client AND a.property_id = place
                         AND a.closed_at IS NULL) THEN 'customer' END;
    IF refusal IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT u.id INTO person FROM public.app_user u WHERE u.email = mail FOR UPDATE;
    is_new := person IS NULL;
    IF is_new THEN
        INSERT INTO public.app_user (password, email, name, language, is_active, created_at)
        VALUES ('!', mail, btrim(called), tongue, true, at) RETURNING id INTO person;
    END IF;
    SELECT g.refusal INTO refusal
    FROM public.grant_duty(person, 'tenant', place, NULL, NULL, client, 'user:' || actor, at) g;
    refusal := CASE WHEN refusal = 'person' THEN 'away' ELSE refusal END;
    IF refusal IS NOT NULL OR NOT is_new THEN
        RETURN;
    END IF;
    INSERT INTO public.invitation (user_id, property_id, invited_by, expires_at)
    VALUES (person, place, 'user:' || actor, ends) RETURNING id INTO invited;
    INSERT INTO public.notice (user_id, code, detail, made_at, due_at)
    SELECT person, 'access.invited.tenant', jsonb_build_object(
               'invitation', invited, 'place', q.name, 'by', u.name,
               'expires', 'at:' || to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')),
           at, at
    FROM public.property q, public.app_user u WHERE q.id = place AND u.id = actor;
END $$;

-- They are this customer no more, at once. Refusals: not_staff, nobody.
CREATE FUNCTION unlink_tenant(place bigint, client bigint, who bigint, actor bigint, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    which bigint;
BEGIN
    IF NOT public.may_link(actor, place) THEN
        RETURN 'not_staff';
    END IF;
    SELECT g.id INTO which FROM public.duty_grant g
    WHERE g.user_id = who AND g.property_id = place AND g.customer_id = client AND g.ended_at IS NULL;
    RETURN CASE WHEN which IS NULL OR NOT public.end_duty(which, 'user:' || actor, at) THEN 'nobody' END;
END $$;

-- Whoever moved out sees the place no more, by whichever deed their last account was closed: the next tenant is
-- somebody else.
CREATE FUNCTION moved_out() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.account a WHERE a.customer_id = NEW.customer_id AND a.closed_at IS NULL) THEN
        PERFORM public.end_duty(g.id, 'system:moves', NEW.closed_at) FROM public.duty_grant g
        WHERE g.customer_id = NEW.customer_id AND g.ended_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ends_the_link AFTER UPDATE OF closed_at ON account FOR EACH ROW
    WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL AND NEW.customer_id IS NOT NULL)
    EXECUTE FUNCTION moved_out();

REVOKE ALL ON FUNCTION places_of_group, holders_of_group, write_group, agreed_everywhere, make_group, make_duty,
    end_duties, may_link, link_tenant, unlink_tenant, moved_out FROM PUBLIC;
