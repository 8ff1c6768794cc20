-- What a meter had of credit before its wallet told it anything is not of that wallet, also where it is known of late: by
-- the answer of a meter that was given up for lost, or that came from elsewhere.

-- As 0005 has it, but for the last part.
CREATE OR REPLACE FUNCTION end_instructions(
    at timestamptz, ids bigint[], states smallint[], results smallint[], answers bytea[],
    meters bigint[], last_sequences bigint[], known_sequences bigint[], known_hashes bytea[],
    credits bigint[], balances bigint[], refusals bigint[], said_ats timestamptz[], were_read boolean[]
) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.instruction AS i
    SET state = n.s, result = n.r, answer = n.a, answered_at = at, next_try_at = NULL
    FROM unnest(ids, states, results, answers) AS n(i, s, r, a) WHERE i.id = n.i;

    UPDATE public.instruction_state AS s
    SET last_sequence = n.q, known_sequence = n.k, known_hash = n.h, credit_micro = n.c,
        balance_micro = n.b, refused = n.f, said_at = n.t, verified_at = at,
        must_read = s.must_read AND NOT n.d
    FROM unnest(meters, last_sequences, known_sequences, known_hashes, credits, balances, refusals,
                said_ats, were_read) AS n(m, q, k, h, c, b, f, t, d)
    WHERE s.meter_id = n.m;

    -- Credit (2) that this wallet told it, up to what the meter says to have done last and has not refused (4), may be what
    -- it has signed for now; else that is from before.
    UPDATE public.meter_wallet AS w
    SET (told_micro, credit_micro, total_micro, base_micro) = (
        SELECT n.c, greatest(w.credit_micro + f.more, n.c), w.total_micro + f.more, w.base_micro + f.more
        FROM (SELECT CASE WHEN w.told_micro = w.base_micro AND w.state = 1 AND NOT EXISTS (
                  SELECT FROM public.instruction i
                  WHERE i.meter_id = w.meter_id AND i.operation = 2 AND i.state <> 4
                    AND i.issued_at >= w.since AND i.sequence <= n.k)
              THEN n.c - w.base_micro ELSE 0 END AS more) AS f)
    FROM unnest(meters, credits, known_sequences) AS n(m, c, k)
    WHERE w.meter_id = n.m AND w.state < 3 AND w.told_micro < n.c;
END $$;

-- As 0005 has it. What a wallet begins from rises alone, and only until the meter has signed for any of it.
CREATE OR REPLACE FUNCTION meter_wallet_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.seen_seq < OLD.seen_seq OR NEW.told_micro < OLD.told_micro
        OR (NEW.base_micro <> OLD.base_micro AND (
            NEW.base_micro < OLD.base_micro OR OLD.told_micro <> OLD.base_micro OR NEW.told_micro <> NEW.base_micro))
        OR (NEW.credit_micro < OLD.credit_micro AND OLD.told_micro > OLD.base_micro))
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING MESSAGE = 'the credit of a meter does not fall';
    END IF;
    IF (OLD.state = 3 OR NEW.state NOT IN (OLD.state, OLD.state + 1)
        OR (OLD.state = 2 AND (NEW.because, NEW.release_at, NEW.release_by, NEW.credit_micro > OLD.credit_micro
                               AND NEW.credit_micro > NEW.told_micro)
            IS DISTINCT FROM (OLD.because, OLD.release_at, OLD.release_by, false))
        OR (NEW.state = 3 AND NEW.end_sequence IS NOT NULL AND NOT EXISTS (
            SELECT FROM public.instruction i
            WHERE i.meter_id = NEW.meter_id AND i.sequence = NEW.end_sequence AND i.operation = 7
              AND i.state = 3 AND i.result = 0)))
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING
            MESSAGE = format('a wallet does not go from state %s to %s', OLD.state, NEW.state);
    END IF;
    RETURN NEW;
END $$;
