ALTER TABLE meter_request ADD CONSTRAINT meter_request_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);
ALTER TABLE meter_gap ADD CONSTRAINT meter_gap_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);
ALTER TABLE fleet_look SET (fillfactor = 70);
ALTER TABLE fleet_day SET (fillfactor = 70);

-- What names the meters of a bulk to those who agree to it: SHA-256 over their ids, rising.
CREATE FUNCTION meters_digest(meters bigint[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(sha256(convert_to(array_to_string(ARRAY(SELECT unnest(meters) ORDER BY 1), ','), 'UTF8')), 'hex')
$$;

-- A bulk begins by what was agreed to, word for word: its kind, its meters, its pace and its bound. ``moves`` are
-- the seconds by which each clock is moved, where it is a bulk of clocks. Who cuts is no word of it.
CREATE FUNCTION begin_bulk(
    place bigint, about text, proposal bigint, who text, why text, meters bigint[], gateways text[],
    moves integer[], at timestamptz
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change CONSTANT jsonb := public.must_be_agreed('fleet.bulk', place, about);
    code CONSTANT smallint := CASE change ->> 'do' WHEN 'read' THEN 1 WHEN 'history' THEN 2 WHEN 'clock' THEN 3
        WHEN 'version' THEN 4 WHEN 'reconnect' THEN 5 END;
    made bigint;
BEGIN
    IF code IS NULL THEN
        RAISE check_violation USING MESSAGE = 'there is no such bulk';
    ELSIF cardinality(meters) <> (change ->> 'amount')::integer
          OR public.meters_digest(meters) IS DISTINCT FROM change ->> 'meters' THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'meters';
    END IF;
    INSERT INTO public.fleet_bulk (property_id, kind, chosen, meters, proposal_id, made_by, reason, begun_at, per_s,
                                   per_gateway_min, bound_percent, state, state_at, state_by, used_to)
    VALUES (place, code, change -> 'chosen', cardinality(meters), proposal, who, why, at,
            (change ->> 'per_s')::smallint, (change ->> 'per_gateway_min')::smallint,
            (change ->> 'bound_percent')::smallint, 1, at, '', at)
    RETURNING id INTO made;
    INSERT INTO public.meter_request (property_id, meter_id, kind, state, bulk_id, gateway, from_at, to_at, move_s,
                                      made_at, made_by, reason, expires_at, tries, next_try_at, result)
    SELECT place, t.meter, code, 1, made, coalesce(t.gateway, ''), (change ->> 'from')::timestamptz,
           (change ->> 'to')::timestamptz, CASE code WHEN 3 THEN t.seconds END, at, who, why,
           at + interval '7 days', 0, at, ''
    FROM unnest(meters, gateways, moves) AS t(meter, gateway, seconds);
    RETURN made;
END $$;

-- One meter is asked something, by a person.
CREATE FUNCTION ask_meter(
    place bigint, meter bigint, code smallint, gateway text, since timestamptz, until timestamptz,
    seconds integer, who text, why text, at timestamptz
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.meter_request (property_id, meter_id, kind, state, gateway, from_at, to_at, move_s, made_at,
                                      made_by, reason, expires_at, tries, next_try_at, result)
    SELECT place, meter, code, 1, gateway, since, until, seconds, at, who, why, at + interval '1 day', 0, at, ''
    -- A few at a time of one meter: who asks a thousand times makes a bulk, and takes somebody's agreement.
    WHERE (SELECT count(*) FROM public.meter_request r
           WHERE r.meter_id = meter AND r.state IN (1, 2) AND r.bulk_id IS NULL AND r.gap_id IS NULL) < 3
    RETURNING id
$$;

-- Days of meters are kept for so long, their sums for ever. A slice of them, so that no transaction is long.
CREATE FUNCTION forget_fleet_days(before date, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM public.fleet_day d USING (
        SELECT f.property_id, f.day, f.meter_id FROM public.property p
        JOIN public.fleet_day f ON f.property_id = p.id AND f.day < before LIMIT most
    ) AS old WHERE d.property_id = old.property_id AND d.day = old.day AND d.meter_id = old.meter_id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION meters_digest, begin_bulk, ask_meter, forget_fleet_days FROM PUBLIC;

-- A bulk of some meters is begun by one administrator, one of more takes others.
DO $$
DECLARE
    limits CONSTANT text := pg_get_functiondef('public.usual_limits'::regproc);
    alone CONSTANT text := pg_get_functiondef('public.may_be_alone'::regproc);
    last_limit CONSTANT text := '(''billing.plans'', 500, 2)';
    last_alone CONSTANT text := '''billing.plans'')';
BEGIN
    IF position(last_limit IN limits) = 0 OR position(last_alone IN alone) = 0 THEN
        RAISE EXCEPTION 'the ladders are not as approvals made them';
    END IF;
    EXECUTE replace(limits, last_limit,
        last_limit || ', (''fleet.bulk'', 0, 0), (''fleet.bulk'', 100, 1), (''fleet.bulk'', 5000, 2)');
    EXECUTE replace(alone, last_alone, '''billing.plans'', ''fleet.bulk'')');
END $$;
