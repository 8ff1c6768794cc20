-- What changes supply against its rules, or the rules themselves, takes the agreement of others
-- (approvals/sql/0002_ladders.sql): each function takes what was agreed to in this very transaction.
-- SQLSTATE PW001 says what has changed since it was proposed.

-- Returns the new version. The brake's own columns stay as they are. Who owns the tables says the rules itself.
DROP FUNCTION change_supply_rules;
CREATE FUNCTION change_supply_rules(place bigint, from_version integer, rules jsonb, at timestamptz)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    found integer;
BEGIN
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('supply.rules', place, 'rules');
        IF (change ->> 'version')::integer IS DISTINCT FROM from_version OR change -> 'rules' IS DISTINCT FROM rules THEN
            RAISE insufficient_privilege USING MESSAGE = 'other rules were agreed to';
        END IF;
    END IF;
    IF jsonb_typeof(rules) <> 'object' THEN
        RAISE check_violation USING MESSAGE = 'rules of supply are an object';
    END IF;
    IF from_version = 0 THEN
        INSERT INTO public.supply_policy (property_id, version, body, changed_at, brake_release_asked_by)
        VALUES (place, 1, rules, at, '') ON CONFLICT DO NOTHING RETURNING version INTO found;
    ELSE
        UPDATE public.supply_policy SET version = version + 1, body = rules, changed_at = at
        WHERE property_id = place AND version = from_version RETURNING version INTO found;
    END IF;
    IF found IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'rules';
    END IF;
    RETURN found;
END $$;

-- Releases the brake that is on since the instant that was agreed to.
DROP FUNCTION release_brake;
CREATE FUNCTION release_brake(place bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    since timestamptz;
BEGIN
    SELECT p.brake_since INTO since FROM public.supply_policy p WHERE p.property_id = place FOR UPDATE;
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('supply.brake', place, 'brake:release');
    END IF;
    IF since IS NULL OR change IS NOT NULL AND (change ->> 'since')::timestamptz <> since THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'brake';
    END IF;
    UPDATE public.supply_policy SET brake_since = NULL, brake_released_at = at, brake_release_asked_by = '',
        brake_release_asked_at = NULL
    WHERE property_id = place;
END $$;

-- Puts it on by hand, which whoever decides may do as well; here it is what was agreed to.
CREATE FUNCTION pull_brake(place bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF public.needs_agreement() THEN
        PERFORM public.must_be_agreed('supply.brake', place, 'brake:on');
    END IF;
    IF NOT public.put_brake_on(place, at) THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'brake';
    END IF;
END $$;

-- Protects a supply from ever being cut for money, or ends that; empty ends it. Returns what was before.
CREATE FUNCTION protect_supply(place bigint, account bigint, word text, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    before text;
BEGIN
    SELECT s.protection INTO before FROM public.supply_state s
    WHERE s.account_id = account AND s.property_id = place FOR UPDATE;
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('supply.protection', place, 'account:' || account);
        IF change ->> 'protection' IS DISTINCT FROM word THEN
            RAISE insufficient_privilege USING MESSAGE = 'another protection was agreed to';
        END IF;
    END IF;
    IF before IS NULL OR change IS NOT NULL AND change ->> 'before' IS DISTINCT FROM before THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'protection';
    END IF;
    UPDATE public.supply_state SET protection = word, reconsider_at = at
    WHERE account_id = account AND property_id = place;
    RETURN before;
END $$;

-- A relay is kept open or closed by hand until an instant, whatever the balance; NULL relay ends that.
-- Relays are 1 closed, 2 open.
CREATE FUNCTION order_by_hand(place bigint, account bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change CONSTANT jsonb := public.must_be_agreed('supply.by_hand', place, 'account:' || account);
    until timestamptz := (change ->> 'until')::timestamptz;
BEGIN
    PERFORM FROM public.supply_state s WHERE s.account_id = account AND s.property_id = place FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'account';
    ELSIF change ->> 'relay' = 'none' THEN
        UPDATE public.supply_state SET by_hand = NULL, by_hand_until = NULL, reconsider_at = at
        WHERE account_id = account;
        RETURN;
    ELSIF until IS NULL OR until <= at THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'late';
    ELSIF until > at + interval '31 days' OR change ->> 'relay' NOT IN ('closed', 'open') THEN
        RAISE check_violation USING MESSAGE = 'by hand for a month at most, closed or open';
    END IF;
    UPDATE public.supply_state SET by_hand = CASE change ->> 'relay' WHEN 'closed' THEN 1 ELSE 2 END,
        by_hand_until = until, reconsider_at = at
    WHERE account_id = account;
END $$;
REVOKE ALL ON FUNCTION change_supply_rules, release_brake, pull_brake, protect_supply, order_by_hand
    FROM PUBLIC;
