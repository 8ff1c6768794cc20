-- A charged reading is put right as it was agreed to in this very transaction (approvals/sql/0002_ladders.sql), by
-- others or, where the money that it moves is little, alone with a second factor. SQLSTATE PW001 `readings`: the
-- reading is another by now. Who owns the tables says it themselves.

-- Writes the next revision of a reading; without a value the reading counts no longer, and keeps the one it had.
CREATE FUNCTION revise_reading(
    place bigint, meter bigint, register integer, at timestamptz, following integer, payer bigint, wh bigint,
    came timestamptz
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    held public.register_reading;
BEGIN
    SELECT * INTO held FROM public.register_reading r
    WHERE r.meter_id = meter AND r.register_code = register AND r.read_at = at AND r.property_id = place
    ORDER BY r.revision DESC LIMIT 1;
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('mdm.edit', place, 'meter:' || meter);
        IF (change ->> 'register')::integer IS DISTINCT FROM register
           OR (change ->> 'read_at')::timestamptz IS DISTINCT FROM at
           OR (change ->> 'account')::bigint IS DISTINCT FROM payer
           OR (change ->> 'value')::bigint IS DISTINCT FROM wh THEN
            RAISE insufficient_privilege USING MESSAGE = 'another reading was agreed to';
        ELSIF (change ->> 'revision')::integer IS DISTINCT FROM following
           OR (change ->> 'was')::bigint IS DISTINCT FROM held.value_wh THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'readings';
        END IF;
    END IF;
    IF held.revision + 1 IS DISTINCT FROM following THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'readings';
    END IF;
    INSERT INTO public.register_reading (meter_id, register_code, read_at, revision, property_id, account_id,
                                         value_wh, quality, source, received_at)
    -- 4: a person put it right; 5: it was withdrawn; 2: by hand (core/readings.py).
    VALUES (meter, register, at, following, place, payer, coalesce(wh, held.value_wh),
            CASE WHEN wh IS NULL THEN 5 ELSE 4 END, 2, came);
END $$;

-- Whether this revision of a reading is its withdrawal: a policy cannot look at its own table.
CREATE FUNCTION was_withdrawn(meter bigint, register smallint, at timestamptz, former integer) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM public.register_reading r
        WHERE r.meter_id = meter AND r.register_code = register AND r.read_at = at AND r.revision = former
          AND r.quality = 5)
$$;
REVOKE ALL ON FUNCTION revise_reading, was_withdrawn FROM PUBLIC;

-- An edit has its ladder, by the money that it moves between the account and the property; a little goes alone.
DO $$
DECLARE
    limits CONSTANT text := pg_get_functiondef('public.usual_limits'::regproc);
    alone CONSTANT text := pg_get_functiondef('public.may_be_alone'::regproc);
    last_limit CONSTANT text := '(''billing.plans'', 500, 2)';
    first_alone CONSTANT text := '(''vending.refund'', ';
BEGIN
    IF position(last_limit IN limits) = 0 OR position(first_alone IN alone) = 0 THEN
        RAISE EXCEPTION 'the ladders are not as approvals made them';
    END IF;
    EXECUTE replace(limits, last_limit,
        last_limit || ', (''mdm.edit'', 0, 0), (''mdm.edit'', 20000000, 1), (''mdm.edit'', 1000000000, 2)');
    EXECUTE replace(alone, first_alone, first_alone || '''mdm.edit'', ');
END $$;
