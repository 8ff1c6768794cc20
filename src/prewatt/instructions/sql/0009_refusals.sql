-- A meter that refuses whatever it is told, at once, is told no faster than so: it may be its clock, or nobody's meter.

-- Whether the last three instructions to a meter were all refused within five minutes.
CREATE FUNCTION refuses_all(meter bigint, at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT count(*) FROM public.instruction_state s
            JOIN public.instruction i ON i.meter_id = s.meter_id AND i.sequence > s.last_sequence - 3
            WHERE s.meter_id = meter AND i.state = 4 AND i.answered_at > at - interval '5 minutes') >= 3;
END $$;

-- As 0005 has it, but for meters that refuse all.
CREATE OR REPLACE FUNCTION credit_due(after bigint, counted_by_meter smallint[], at timestamptz, most integer)
RETURNS TABLE (
    meter_id bigint, property_id bigint, serial text, due_micro bigint, last_sequence bigint,
    known_sequence bigint, known_hash bytea, credit_micro bigint, balance_micro bigint, refused bigint,
    must_read boolean)
LANGUAGE plpgsql ROWS 100 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- From the few to the many: what is not said to come first is begun at the larger table.
    PERFORM public.add_up_wallets(ARRAY(
        WITH paid AS MATERIALIZED (
            SELECT p.account_id FROM public.payment p WHERE p.id > after ORDER BY p.id DESC LIMIT 1000)
        SELECT w.meter_id FROM (SELECT DISTINCT account_id FROM paid) AS p
        JOIN public.meter_wallet w ON w.account_id = p.account_id AND w.state = 1), counted_by_meter);
    -- Who was never instructed begins to stand.
    INSERT INTO public.instruction_state (meter_id, property_id, known_hash)
    SELECT w.meter_id, w.property_id, decode(repeat('00', 32), 'hex') FROM public.meter_wallet w
    WHERE w.credit_micro > w.told_micro AND w.state = 1
      AND NOT EXISTS (SELECT FROM public.instruction_state s WHERE s.meter_id = w.meter_id)
    ON CONFLICT (meter_id) DO NOTHING;
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT w.meter_id, w.property_id, w.account_id, w.credit_micro, w.told_micro = w.base_micro AS is_new
        FROM public.meter_wallet w
        WHERE w.credit_micro > w.told_micro AND w.state = 1
          AND NOT EXISTS (SELECT FROM public.instruction i
                          WHERE i.meter_id = w.meter_id AND i.state IN (1, 2))
          -- `refuses_all`, written out: it is asked for every instruction, and a call sets six parameters each time.
          AND (SELECT count(*) FROM public.instruction_state s
               JOIN public.instruction i ON i.meter_id = s.meter_id AND i.sequence > s.last_sequence - 3
               WHERE s.meter_id = w.meter_id AND i.state = 4 AND i.answered_at > at - interval '5 minutes') < 3
          -- As a value and not as a join, which would begin at all that anybody pays by.
          AND (SELECT true FROM public.meter_assignment a
               WHERE a.meter_id = w.meter_id AND a.account_id = w.account_id AND a.period @> at LIMIT 1)
        ORDER BY w.meter_id LIMIT most)
    SELECT w.meter_id, w.property_id, m.serial::text, w.credit_micro, s.last_sequence, s.known_sequence,
           s.known_hash, s.credit_micro, s.balance_micro, s.refused, s.must_read
    FROM due w
    JOIN public.meter m ON m.id = w.meter_id
    JOIN public.instruction_state s ON s.meter_id = w.meter_id
         AND NOT (w.is_new AND s.balance_micro IS NOT NULL)
    ORDER BY w.meter_id FOR UPDATE OF s SKIP LOCKED;
END $$;
