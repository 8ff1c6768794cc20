-- What the head-end asks and writes at each turn with the meters that sign. They are functions because a statement costs more
-- before its first row than these do for all of theirs: each is planned once for its connection, whatever the sizes of the
-- tables, and says so by itself. Each does what its caller might do (they run as their caller) and no more.

-- The keys by which these meters' answers are believed at this instant.
CREATE FUNCTION meter_keys_at(meters bigint[], at timestamptz)
RETURNS TABLE (meter_id bigint, key_id bytea, public_key bytea)
LANGUAGE plpgsql STABLE ROWS 100 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT k.meter_id, k.key_id, k.public_key
    FROM unnest(meters) AS m(id) JOIN public.meter_key k ON k.meter_id = m.id
    WHERE k.valid_from <= at AND (k.valid_until IS NULL OR k.valid_until > at)
      AND k.revoked_at IS NULL;
END $$;

-- How these meters stand, locked in the order of the meters.
CREATE FUNCTION lock_standings(meters bigint[]) RETURNS TABLE (
    meter_id bigint, property_id bigint, last_sequence bigint, known_sequence bigint, known_hash bytea,
    credit_micro bigint, balance_micro bigint, refused bigint, must_read boolean)
LANGUAGE plpgsql ROWS 100 SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.meter_id, s.property_id, s.last_sequence, s.known_sequence, s.known_hash, s.credit_micro,
           s.balance_micro, s.refused, s.must_read
    FROM public.instruction_state s WHERE s.meter_id = ANY (meters) ORDER BY s.meter_id FOR UPDATE;
END $$;

-- The commands of these numbers, each of its meter.
CREATE FUNCTION instructions_named(meters bigint[], numbers bigint[]) RETURNS TABLE (
    meter_id bigint, sequence bigint, id bigint, command_hash bytea, operation smallint, argument bigint,
    state smallint, order_id bigint)
LANGUAGE plpgsql ROWS 100 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT i.meter_id, i.sequence, i.id, i.command_hash, i.operation, i.argument, i.state, i.order_id
    FROM unnest(meters, numbers) AS n(m, s)
    JOIN public.instruction i ON i.meter_id = n.m AND i.sequence = n.s;
END $$;

-- Commands end by their answers, and what their meters then say of themselves is how they stand.
CREATE FUNCTION end_instructions(
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

    UPDATE public.meter_wallet AS w SET told_micro = least(w.credit_micro, n.c)
    FROM unnest(meters, credits) AS n(m, c) WHERE w.meter_id = n.m AND w.told_micro < n.c;
END $$;

-- New commands take the next numbers of their meters, whose standings the caller has locked.
CREATE FUNCTION write_instructions(
    at timestamptz, places bigint[], meters bigint[], numbers bigint[], operations smallint[],
    arguments bigint[], orders bigint[], ends timestamptz[], commands bytea[], hashes bytea[],
    next_tries timestamptz[]
) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.instruction_state AS s SET last_sequence = n.q
    FROM unnest(meters, numbers) AS n(m, q) WHERE s.meter_id = n.m;

    INSERT INTO public.instruction (property_id, meter_id, sequence, operation, argument, order_id,
        issued_at, expires_at, command, command_hash, tries, next_try_at)
    SELECT p, m, q, o, a, d, at, e, c, h, 1, t
    FROM unnest(places, meters, numbers, operations, arguments, orders, ends, commands, hashes, next_tries)
         AS n(p, m, q, o, a, d, e, c, h, t);
END $$;

-- What the accounts of these wallets moved by since they were last added up (the kinds in ``counted_by_meter`` are
-- the meter's own to count). Lost, it is added up again: what is signed by it waits for the disk.
CREATE FUNCTION add_up_wallets(meters bigint[], counted_by_meter smallint[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.meter_wallet w
    SET seen_seq = n.seq, total_micro = w.total_micro + n.moved,
        credit_micro = greatest(w.credit_micro, w.total_micro + n.moved)
    FROM (SELECT x.meter_id, s.transfer_seq AS seq, (
              SELECT coalesce(sum(t.amount), 0)::bigint FROM public.transfer t
              WHERE t.account_id = x.account_id AND t.seq > x.seen_seq AND t.seq <= s.transfer_seq
                AND t.kind <> ALL (counted_by_meter)) AS moved
          FROM public.meter_wallet x
          JOIN public.account_state s ON s.account_id = x.account_id AND s.transfer_seq > x.seen_seq
          WHERE x.meter_id = ANY (meters) ORDER BY x.meter_id) AS n
    WHERE w.meter_id = n.meter_id AND w.seen_seq < n.seq;
END $$;

-- The last payment so far, by its number.
CREATE FUNCTION last_payment() RETURNS bigint LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT max(id) FROM public.payment), 0);
END $$;

-- Adds up the wallets of accounts that were paid since the payment ``after``, and locks and returns the standings of meters
-- that are due to be told, as `lock_standings` does. A meter of which something is under way is left out, and one by which its
-- account does not pay any more; also one whose standing somebody else holds just now: the next look finds it.
CREATE FUNCTION credit_due(after bigint, counted_by_meter smallint[], at timestamptz, most integer)
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
        JOIN public.meter_wallet w ON w.account_id = p.account_id), counted_by_meter);
    -- Who was never instructed begins to stand.
    INSERT INTO public.instruction_state (meter_id, property_id, known_hash)
    SELECT w.meter_id, w.property_id, decode(repeat('00', 32), 'hex') FROM public.meter_wallet w
    WHERE w.credit_micro > w.told_micro
      AND NOT EXISTS (SELECT FROM public.instruction_state s WHERE s.meter_id = w.meter_id)
    ON CONFLICT (meter_id) DO NOTHING;
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT w.meter_id, w.property_id, w.account_id, w.credit_micro FROM public.meter_wallet w
        WHERE w.credit_micro > w.told_micro
          AND NOT EXISTS (SELECT FROM public.instruction i
                          WHERE i.meter_id = w.meter_id AND i.state IN (1, 2))
          -- As a value and not as a join, which would begin at all that anybody pays by.
          AND (SELECT true FROM public.meter_assignment a
               WHERE a.meter_id = w.meter_id AND a.account_id = w.account_id AND a.period @> at LIMIT 1)
        ORDER BY w.meter_id LIMIT most)
    SELECT w.meter_id, w.property_id, m.serial::text, w.credit_micro, s.last_sequence, s.known_sequence,
           s.known_hash, s.credit_micro, s.balance_micro, s.refused, s.must_read
    FROM due w
    JOIN public.meter m ON m.id = w.meter_id
    JOIN public.instruction_state s ON s.meter_id = w.meter_id
    ORDER BY w.meter_id FOR UPDATE OF s SKIP LOCKED;
END $$;

-- The guards of 0001 and 0002, which now ask who owns the table only where something is wrong: it costs more than the rest.
CREATE OR REPLACE FUNCTION instruction_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state IN (3, 4) OR (OLD.state IN (5, 6) AND NEW.state IN (1, 2)) OR NEW.tries < OLD.tries)
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING
            MESSAGE = format('an instruction does not go from state %s to %s', OLD.state, NEW.state);
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION instruction_is_next() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM public.instruction_state s
        WHERE s.meter_id = NEW.meter_id AND s.property_id = NEW.property_id
          AND s.last_sequence = NEW.sequence)
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING MESSAGE = 'an instruction takes the next number of its meter';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION instruction_state_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.last_sequence < OLD.last_sequence OR NEW.known_sequence < OLD.known_sequence
        OR NEW.credit_micro < OLD.credit_micro OR NEW.known_sequence > NEW.last_sequence)
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING MESSAGE = 'the standing of a meter does not go back';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION meter_wallet_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.seen_seq < OLD.seen_seq OR NEW.credit_micro < OLD.credit_micro OR NEW.told_micro < OLD.told_micro)
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING MESSAGE = 'the credit of a meter does not fall';
    END IF;
    RETURN NEW;
END $$;
