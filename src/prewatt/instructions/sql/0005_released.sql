-- A wallet in a meter ends. It has a row of its own for each time that a meter held credit.

-- What the meter counts of its account since: of whom it told last, what it told of and what is due is in its own row.
CREATE OR REPLACE FUNCTION add_up_wallets(meters bigint[], counted_by_meter smallint[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.meter_wallet w
    SET seen_seq = n.seq, total_micro = n.total,
        -- What it has not begun to count down is still as much as there is; from then on it does not fall.
        credit_micro = greatest(w.told_micro, n.total, CASE WHEN NOT n.is_new THEN w.credit_micro END)
    FROM (SELECT x.id, x.is_new, s.transfer_seq AS seq,
              CASE WHEN x.is_new THEN x.base_micro + s.available
                   ELSE x.total_micro + (
                       SELECT coalesce(sum(t.amount), 0)::bigint FROM public.transfer t
                       WHERE t.account_id = x.account_id AND t.seq > x.seen_seq
                         AND t.seq <= s.transfer_seq AND t.kind <> ALL (counted_by_meter)) END AS total
          FROM (SELECT y.*, y.told_micro = y.base_micro AS is_new FROM public.meter_wallet y
                WHERE y.meter_id = ANY (meters) AND y.state = 1) AS x
          JOIN public.account_state s ON s.account_id = x.account_id
               AND (s.transfer_seq > x.seen_seq OR x.is_new)
          ORDER BY x.meter_id) AS n
    WHERE w.id = n.id AND w.state = 1 AND w.seen_seq <= n.seq
      AND (w.told_micro = w.base_micro) = n.is_new
      AND (w.seen_seq < n.seq OR w.total_micro <> n.total);
END $$;

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

-- As 0003 has it, of meters that hold credit; one that still counts for whom it held it before is released first. One that
-- refuses all it is told is told no faster than so.
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

-- As 0003 has it. What a meter has signed for is what it has had, also where that is more than was to be told; and what it
-- had before its wallet told it anything is not of that wallet, also where it is known of late: by the answer of a meter that
-- was given up for lost, or that came from elsewhere.
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

-- Meters have signed that they hold no credit any more, by these instructions, since which they were told of none. That is
-- an event of the audit, as every other end of what they hold: so an end past the program is told apart (walls/tables.py, NOTED).
CREATE FUNCTION end_wallets(
    at timestamptz, ended_for text, meters bigint[], numbers bigint[], balances bigint[], registers bigint[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH ended AS (
        UPDATE public.meter_wallet AS w
        SET state = 3, ended_at = at, end_sequence = n.q, end_balance_micro = n.b, end_register_wh = n.r
        FROM unnest(meters, numbers, balances, registers) AS n(m, q, b, r)
        WHERE w.meter_id = n.m AND w.state = 2 AND NOT EXISTS (
            SELECT FROM public.instruction i
            WHERE i.meter_id = n.m AND i.sequence > n.q AND i.operation = 2)
        RETURNING w.property_id, w.meter_id, w.account_id, n.q, n.b)
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
    SELECT e.property_id, at, ended_for, 'instructions.wallet.signed', 'meter:' || e.meter_id,
           jsonb_build_object('account', e.account_id, 'number', e.q, 'balance_micro', e.b)
    FROM ended e;
END $$;

-- What the meter was told or is to be told of credit does not fall once it has begun to count it down, no transfer is
-- counted twice, and a wallet goes on to its end and never back. What it begins from rises alone, and only until the meter
-- has signed for any of it.
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

-- As 0004 has it: a wallet begins with what its account has, owed or not, on top of all that the meter ever had.
CREATE OR REPLACE FUNCTION meter_wallet_begins() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seq bigint;
    total bigint;
    base bigint;
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    SELECT s.transfer_seq, coalesce(i.credit_micro, 0) + s.available, coalesce(i.credit_micro, 0)
    INTO seq, total, base
    FROM public.account_state s
    JOIN public.meter_assignment a ON a.account_id = s.account_id AND a.meter_id = NEW.meter_id
         AND a.period @> NEW.since
    LEFT JOIN public.instruction_state i ON i.meter_id = a.meter_id
    WHERE s.account_id = NEW.account_id AND s.property_id = NEW.property_id;
    IF (NEW.seen_seq, NEW.total_micro, NEW.credit_micro, NEW.told_micro, NEW.base_micro)
       IS DISTINCT FROM (seq, total, greatest(total, base), base, base) THEN
        RAISE check_violation USING MESSAGE = 'a meter holds what its account has';
    END IF;
    RETURN NEW;
END $$;
