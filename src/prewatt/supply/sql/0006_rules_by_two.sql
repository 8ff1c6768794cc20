-- A property's supply rules are changed by two people: one asks, another agrees. Returns the new version;
-- NULL where the rules are of another version than the change was made of, and nothing was changed. The
-- brake's own columns stay as they are.
CREATE FUNCTION change_supply_rules(
    place bigint, from_version integer, rules jsonb, by_actor text, agreed_by text, at timestamptz
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found integer;
BEGIN
    IF coalesce(by_actor, '') = '' OR coalesce(agreed_by, '') = '' OR by_actor = agreed_by THEN
        RAISE check_violation USING MESSAGE = 'two people change the rules of supply';
    END IF;
    IF jsonb_typeof(rules) <> 'object' THEN
        RAISE check_violation USING MESSAGE = 'rules of supply are an object';
    END IF;
    IF from_version = 0 THEN
        INSERT INTO public.supply_policy (property_id, version, body, changed_at, brake_release_asked_by)
        VALUES (place, 1, rules, at, '') ON CONFLICT DO NOTHING RETURNING version INTO found;
        RETURN found;
    END IF;
    UPDATE public.supply_policy SET version = version + 1, body = rules, changed_at = at
    WHERE property_id = place AND version = from_version RETURNING version INTO found;
    RETURN found;
END $$;
REVOKE ALL ON FUNCTION change_supply_rules FROM PUBLIC;
