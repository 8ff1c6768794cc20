-- What a property does by itself when a case is opened. The policy is changed by what others agreed to, in that very
-- transaction; supply is withheld, and emergency credit held back, by no login but through these functions, which look
-- the policy up themselves and touch nobody who is protected.

CREATE FUNCTION change_tamper_policy(place bigint, from_version integer, rules jsonb, at timestamptz)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    found integer;
BEGIN
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('tamper.policy', place, 'policy');
        IF (change ->> 'version')::integer IS DISTINCT FROM from_version OR change -> 'policy' IS DISTINCT FROM rules THEN
            RAISE insufficient_privilege USING MESSAGE = 'another policy was agreed to';
        END IF;
    END IF;
    IF jsonb_typeof(rules) <> 'object' THEN
        RAISE check_violation USING MESSAGE = 'a policy is an object';
    END IF;
    IF from_version = 0 THEN
        INSERT INTO public.tamper_policy (property_id, version, body, changed_at)
        VALUES (place, 1, rules, at) ON CONFLICT DO NOTHING RETURNING version INTO found;
    ELSE
        UPDATE public.tamper_policy SET version = version + 1, body = rules, changed_at = at
        WHERE property_id = place AND version = from_version RETURNING version INTO found;
    END IF;
    IF found IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'tamper_policy';
    END IF;
    RETURN found;
END $$;

-- Does what the policy says of this case to its account's supply, and returns what was done: 'cut', 'hold_emergency',
-- or 'protected' or 'nobody' where it touches none. Whoever calls holds the account's lock. In the policy a kind stands
-- by its number.
CREATE FUNCTION withhold_supply(case_no bigint, at timestamptz)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c public.tamper_case;
    s public.supply_state;
    wanted text;
BEGIN
    SELECT * INTO c FROM public.tamper_case t WHERE t.id = case_no AND t.state <> 3;
    SELECT p.body -> 'responses' ->> c.kind::text INTO wanted
    FROM public.tamper_policy p WHERE p.property_id = c.property_id;
    IF wanted IS NULL OR wanted NOT IN ('cut', 'hold_emergency') THEN
        RAISE insufficient_privilege USING MESSAGE = 'no policy says so';
    END IF;
    SELECT * INTO s FROM public.supply_state x
    WHERE x.account_id = c.account_id AND x.property_id = c.property_id FOR UPDATE;
    IF NOT FOUND OR EXISTS (
        SELECT FROM public.account a WHERE a.id = c.account_id AND (a.closed_at IS NOT NULL OR a.kind = 'vacancy'))
    THEN
        RETURN 'nobody';
    ELSIF s.protection <> '' THEN
        RETURN 'protected';
    ELSIF wanted = 'cut' THEN
        UPDATE public.supply_state SET withheld_since = coalesce(withheld_since, at), reconsider_at = at
        WHERE account_id = c.account_id;
    ELSE
        UPDATE public.supply_state
        SET emergency_held_micro = emergency_held_micro + emergency_micro, emergency_micro = 0, reconsider_at = at
        WHERE account_id = c.account_id;
    END IF;
    RETURN wanted;
END $$;

-- Gives back what cases withheld from an account, once none of its cases is open; returns whether there was anything.
CREATE FUNCTION release_supply(account bigint, at timestamptz)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM public.tamper_case c
               WHERE c.account_id = account AND c.state <> 3 AND c.response IN (4, 5)) THEN
        RETURN false;
    END IF;
    UPDATE public.supply_state
    SET withheld_since = NULL, emergency_micro = emergency_micro + emergency_held_micro,
        emergency_held_micro = 0, reconsider_at = at
    WHERE account_id = account AND (withheld_since IS NOT NULL OR emergency_held_micro <> 0);
    RETURN FOUND;
END $$;

-- Who is protected while a case withholds their supply has it back at once.
CREATE FUNCTION protected_is_not_withheld() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.protection <> '' THEN
        NEW.withheld_since := NULL;
        NEW.emergency_micro := NEW.emergency_micro + NEW.emergency_held_micro;
        NEW.emergency_held_micro := 0;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER protected_is_not_withheld BEFORE UPDATE OF protection ON supply_state
    FOR EACH ROW EXECUTE FUNCTION protected_is_not_withheld();
REVOKE ALL ON FUNCTION change_tamper_policy, withhold_supply, release_supply FROM PUBLIC;
