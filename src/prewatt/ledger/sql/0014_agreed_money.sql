-- Money comes onto an account, or leaves it, without a payment only as others agreed to: the pen asks for what was
-- agreed to in its own transaction (approvals/sql/0002_ladders.sql) behind what is taken back, moved, written off
-- or given by hand. Whoever holds the credential of a duty can book none of them alone, but what a second factor
-- and the property's ladder leave to one person.

-- A leg of an event, as far as it says where money goes.
CREATE TYPE money_leg AS (
    event_id bigint, account_id bigint, kind smallint, counter_account smallint, amount bigint,
    corrects_event_id bigint, corrects_seq bigint, code text
);

-- Kinds and counter-accounts are those of core/accounts.py. Called by the pen, which holds the accounts' locks.
CREATE FUNCTION money_has_its_way(
    event_ids bigint[], account_ids bigint[], kinds smallint[], counter_accounts smallint[], amounts bigint[],
    corrected_event_ids bigint[], corrected_seqs bigint[], codes text[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    legs public.money_leg[];
BEGIN
    -- Each kind goes to counter-accounts of its own: no charge is paid by the till, nor credit by what is owed.
    IF EXISTS (
        SELECT FROM unnest(kinds, counter_accounts, amounts) AS l(kind, counter, amount)
        WHERE NOT CASE
            WHEN kind = 2 THEN counter IN (1, 2)
            WHEN kind IN (3, 9, 10) THEN counter IN (3, 4, 5, 6, 7, 11, 15)
            WHEN kind = 4 THEN counter = 14 AND amount < 0 OR counter = 16
            WHEN kind = 5 THEN counter = 10
            WHEN kind = 6 THEN counter = 12 AND amount < 0 OR counter = 10 AND amount > 0
            WHEN kind = 7 THEN counter IN (1, 2) AND amount < 0 OR counter = 12 AND amount > 0
            WHEN kind = 8 THEN counter = 9
            WHEN kind = 11 THEN counter = 12 AND amount < 0
            WHEN kind = 12 THEN counter = 13
            WHEN kind = 13 THEN counter = 12 OR counter = 10 AND amount < 0
            ELSE false END
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'money does not go that way';
    END IF;
    IF NOT kinds && '{4,5,6,7,8,12,13}'::smallint[] THEN
        RETURN;
    END IF;
    FOR legs IN
        SELECT array_agg(ROW(l.event_id, l.account_id, l.kind, l.counter_account, l.amount, l.corrects_event_id,
                             l.corrects_seq, l.code)::public.money_leg ORDER BY l.ord)
        FROM unnest(event_ids, account_ids, kinds, counter_accounts, amounts, corrected_event_ids,
                    corrected_seqs, codes)
            WITH ORDINALITY AS l(event_id, account_id, kind, counter_account, amount, corrects_event_id,
                                 corrects_seq, code, ord)
        GROUP BY l.event_id HAVING bool_or(l.kind IN (4, 5, 6, 7, 8, 12, 13)) ORDER BY l.event_id
    LOOP
        PERFORM public.lent_is_owed(legs), public.paid_back_was_there(legs);
        IF EXISTS (SELECT FROM unnest(legs) l WHERE l.kind IN (5, 6, 7, 8))
           AND NOT public.follows_from_a_let(legs) THEN
            PERFORM public.money_is_agreed(legs);
        END IF;
    END LOOP;
END $$;

-- What is lent to a wallet is a debt with a name, and lifts no wallet above zero.
CREATE FUNCTION lent_is_owed(legs money_leg[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM unnest(legs) l WHERE l.kind = 13 AND l.amount > 0 AND NOT EXISTS (
            SELECT FROM public.debt d
            WHERE d.account_id = l.account_id AND d.code = l.code AND d.closed_at IS NULL)
    ) OR EXISTS (
        SELECT FROM unnest(legs) l JOIN public.account_state s ON s.account_id = l.account_id
        GROUP BY s.account_id, s.available
        HAVING bool_or(l.kind = 13 AND l.amount > 0) AND sum(l.amount) > greatest(0, -s.available)
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'what is lent is a debt, and lifts nobody above zero';
    END IF;
END $$;

-- A deposit comes back that was taken; what is left is owed to somebody who has gone, to the minor unit.
CREATE FUNCTION paid_back_was_there(legs money_leg[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM unnest(legs) l WHERE l.kind = 12 GROUP BY l.account_id
        HAVING sum(l.amount) + (SELECT coalesce(sum(t.amount), 0) FROM public.transfer t
                                WHERE t.account_id = l.account_id AND t.kind = 12) > 0
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'no more of a deposit comes back than was taken';
    END IF;
    IF EXISTS (
        SELECT FROM unnest(legs) l
        JOIN public.account_state s ON s.account_id = l.account_id
        JOIN public.property p ON p.id = s.property_id
        JOIN public.account a ON a.id = l.account_id
        WHERE l.kind = 4
        GROUP BY a.id, a.closed_at, s.available, p.minor_digits
        HAVING a.closed_at IS NULL OR NOT bool_or(l.counter_account = 14) OR s.available + sum(l.amount) < 0
            OR 2 * max(abs(l.amount)) FILTER (WHERE l.counter_account = 16) > 10 ^ (6 - p.minor_digits)
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'a refund is what is left on a closed account';
    END IF;
END $$;

-- A let ends by itself: what it lacks is the property's loss where the property has said so, and never lifts the
-- closed account above zero; a later let of the same customer pays what an earlier one owes, and nobody gains.
CREATE FUNCTION follows_from_a_let(legs money_leg[]) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cardinality(legs) = 1 AND (legs[1]).kind = 5 THEN
        RETURN (legs[1]).amount > 0 AND EXISTS (
            SELECT FROM public.account_state s
            JOIN public.account a ON a.id = s.account_id AND a.closed_at IS NOT NULL
            JOIN public.temporary_let t ON t.account_id = s.account_id AND t.closed_at IS NULL
            JOIN public.debt_policy d ON d.property_id = s.property_id AND d.let_shortfall = 'loss'
            WHERE s.account_id = (legs[1]).account_id AND s.available + (legs[1]).amount <= 0);
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM unnest(legs) l LEFT JOIN public.account a ON a.id = l.account_id
        HAVING NOT bool_and(l.kind IN (8, 11) AND l.corrects_seq IS NULL)
            OR count(a.customer_id) <> count(*) OR count(DISTINCT a.customer_id) > 1
            OR sum(l.amount) FILTER (WHERE l.kind = 8) <> 0
    ) AND NOT EXISTS (
        SELECT FROM unnest(legs) l GROUP BY l.account_id HAVING sum(l.amount) > 0
    ) AND NOT EXISTS (
        SELECT FROM unnest(legs) l WHERE l.kind = 11 AND NOT EXISTS (
            SELECT FROM public.debt d
            WHERE d.account_id = l.account_id AND d.code = l.code AND d.closed_at IS NULL));
END $$;

-- What others agreed to in this transaction is what these legs do, of which there are no others.
CREATE FUNCTION money_is_agreed(legs money_leg[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place bigint;
    change jsonb;
    agreed boolean;
    debt bigint;
BEGIN
    SELECT s.property_id INTO place FROM public.account_state s WHERE s.account_id = (legs[1]).account_id;
    IF cardinality(legs) = 1 AND (legs[1]).kind = 5 THEN
        change := public.must_be_agreed('ledger.credit', place, 'account:' || (legs[1]).account_id);
        agreed := (change ->> 'credit')::bigint = (legs[1]).amount
            AND (change ->> 'amount')::bigint = abs((legs[1]).amount);
    ELSIF (legs[1]).kind = 6 THEN
        SELECT d.id INTO debt FROM public.debt d
        WHERE d.account_id = (legs[1]).account_id AND d.code = (legs[1]).code AND d.closed_at IS NULL;
        change := public.must_be_agreed('debts.write_off', place, 'debt:' || debt);
        -- The debt has so much less, and the wallet stays as it is.
        SELECT count(*) = 2 AND bool_and(l.kind = 6) AND min(l.account_id) = max(l.account_id)
               AND min(l.code) = max(l.code) AND sum(l.amount) = 0
               AND max(l.amount) = (change ->> 'amount')::bigint
        INTO agreed FROM unnest(legs) l;
    ELSE
        agreed := public.taking_back_is_agreed(legs, place);
    END IF;
    IF agreed IS DISTINCT FROM true THEN
        RAISE insufficient_privilege USING MESSAGE = 'something else was agreed to';
    END IF;
END $$;

-- One recharge that stands is taken back whole, to where it came from or to the account that was agreed to. Its
-- shares of debts go back to them; what was used beyond emergency credit is lent or borne as was agreed to, and
-- leaves nobody above zero.
CREATE FUNCTION taking_back_is_agreed(legs money_leg[], place bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    off public.money_leg;
    change jsonb;
    agreed boolean;
BEGIN
    SELECT l.* INTO off FROM unnest(legs) l
    WHERE l.kind IN (7, 8) AND l.counter_account <> 12 AND l.amount < 0 AND l.corrects_seq IS NOT NULL;
    IF off.account_id IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'money moves between accounts by a recharge that is taken back';
    END IF;
    change := public.must_be_agreed(CASE off.kind WHEN 7 THEN 'vending.reversal' ELSE 'vending.move' END, place,
                                    'recharge:' || off.corrects_event_id);
    -- Each leg is one of these. What corrects is corrected for the first time, and by as much.
    SELECT bool_and(CASE
               WHEN l.corrects_seq IS NOT NULL THEN l.account_id = off.account_id
                   AND l.corrects_event_id = off.corrects_event_id
                   AND EXISTS (
                       SELECT FROM public.transfer t
                       WHERE t.account_id = l.account_id AND t.event_id = l.corrects_event_id
                         AND t.seq = l.corrects_seq AND t.amount = -l.amount
                         AND CASE WHEN l.counter_account = 12 THEN t.kind = 11 AND t.code = l.code
                             ELSE t.kind = 2 END
                         AND l.counter_account = CASE l.kind WHEN 8 THEN 9 ELSE t.counter_account END)
                   AND NOT EXISTS (
                       SELECT FROM public.transfer t
                       WHERE t.account_id = l.account_id AND t.corrects_event_id = l.corrects_event_id
                         AND t.corrects_seq = l.corrects_seq)
               WHEN l.kind = 8 THEN off.kind = 8 AND l.account_id = (change ->> 'to')::bigint
                   AND l.amount = -off.amount
               WHEN l.kind = 13 THEN l.amount > 0 AND l.account_id = off.account_id
                   AND change ->> 'missing' = 'debt'
               WHEN l.kind = 5 THEN l.amount > 0 AND l.account_id = off.account_id
                   AND change ->> 'missing' = 'loss'
               ELSE false END)
           AND count(*) = count(DISTINCT (l.corrects_seq, l.kind))
           AND count(*) FILTER (WHERE l.corrects_seq IS NULL AND l.kind = 8) = (off.kind - 7)
           AND bool_or(l.corrects_seq = off.corrects_seq)
    INTO agreed FROM unnest(legs) l;
    RETURN agreed AND (change ->> 'account')::bigint = off.account_id
        AND (change ->> 'amount')::bigint = -off.amount
        AND NOT EXISTS (
            SELECT FROM unnest(legs) l JOIN public.account_state s ON s.account_id = l.account_id
            WHERE l.account_id = off.account_id GROUP BY s.account_id, s.available
            HAVING bool_or(l.kind IN (5, 13)) AND s.available + sum(l.amount) > 0);
END $$;
REVOKE ALL ON FUNCTION money_has_its_way, lent_is_owed, paid_back_was_there, follows_from_a_let, money_is_agreed,
    taking_back_is_agreed FROM PUBLIC;

-- The same pen (0009_pen_of_paid.sql), which now asks for that.

DROP FUNCTION append_transfers;
CREATE FUNCTION append_transfers(
    event_ids bigint[], account_ids bigint[], kinds smallint[], components smallint[], bands smallint[],
    counter_accounts smallint[], amounts bigint[], energies_wh bigint[], tax_rates_ppm integer[],
    services_from timestamptz[], services_to timestamptz[], corrected_event_ids bigint[],
    corrected_seqs bigint[], reasons text[], steps smallint[], codes text[],
    booked timestamptz, by_actors text[],
    -- Nothing was written when there is a refusal: unknown_account or period_closed.
    OUT refusal text, OUT refused_account bigint, OUT refused_from timestamptz, OUT books_open_from date,
    OUT written bigint
) LANGUAGE plpgsql SECURITY DEFINER SET plan_cache_mode = force_generic_plan
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- SECURITY DEFINER changes who we are, not which role the caller has taken.
    duty CONSTANT text := coalesce(nullif(current_setting('role'), 'none'), session_user);
    -- Who owns the tables needs no pen.
    sells CONSTANT boolean := duty = 'app_operator'
        OR duty IN ('app_admin', 'clerk') AND 2 = ANY (kinds);
    named bigint[];
    locked bigint;
BEGIN
    IF NOT cardinality(account_ids) = ALL (ARRAY[cardinality(event_ids), cardinality(kinds),
        cardinality(components), cardinality(bands), cardinality(counter_accounts), cardinality(amounts),
        cardinality(energies_wh), cardinality(tax_rates_ppm), cardinality(services_from),
        cardinality(services_to), cardinality(corrected_event_ids), cardinality(corrected_seqs),
        cardinality(reasons), cardinality(steps), cardinality(codes), cardinality(by_actors)]) THEN
        RAISE check_violation USING MESSAGE = 'the columns of the legs differ in length';
    END IF;
    IF duty = 'app_operator' AND NOT kinds <@ '{2,10,11}'::smallint[] THEN
        RAISE insufficient_privilege USING MESSAGE = 'an operator books recharges and what they take';
    END IF;
    IF duty IN ('app_operator', 'app_admin', 'clerk') AND 1 = ANY (kinds) THEN
        RAISE insufficient_privilege USING MESSAGE = 'opening balances come with a property, from its owner';
    END IF;
    IF EXISTS (SELECT FROM unnest(kinds, amounts) AS l(kind, amount) WHERE kind = 2 AND amount <= 0) THEN
        RAISE check_violation USING MESSAGE = 'a recharge is money that came in';
    END IF;
    IF sells AND EXISTS (
        SELECT FROM unnest(event_ids, account_ids, kinds, counter_accounts, amounts, corrected_seqs,
                           by_actors)
            AS l(event_id, account_id, kind, counter_account, amount, corrected_seq, actor)
        GROUP BY l.event_id
        HAVING count(*) FILTER (WHERE kind = 2) > 1 OR duty = 'app_operator' AND (
            count(*) FILTER (WHERE kind = 2) = 0 OR count(corrected_seq) > 0
            OR min(account_id) <> max(account_id) OR min(actor) <> max(actor) OR sum(amount) < 0
            OR bool_or(kind <> 2 AND amount >= 0)
            OR bool_or(kind = 10 AND counter_account NOT IN (3, 4, 5, 6, 7, 11))
            OR bool_or(kind = 11 AND counter_account <> 12))
    ) THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'of one recharge is taken what it pays for, and no more';
    END IF;

    -- The first lock of every writer, in account_id order.
    named := ARRAY(SELECT DISTINCT a FROM unnest(account_ids) AS a ORDER BY a);
    PERFORM FROM public.account_state WHERE account_id = ANY (named)
        ORDER BY account_id FOR NO KEY UPDATE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked <> cardinality(named) THEN
        refusal := 'unknown_account';
        RETURN;
    END IF;

    -- Under the lock, or one payment could be sold for twice at the same time. LIMIT and + 0 keep the
    -- planner on the events, whatever it knew of the tables when it made the plan.
    IF sells AND EXISTS (
        SELECT FROM unnest(event_ids, account_ids, kinds, counter_accounts, amounts, by_actors)
            AS l(event_id, account_id, kind, counter_account, amount, actor)
        WHERE l.kind = 2 AND (
            (SELECT p.amount_micro FROM public.payment p
             WHERE p.event_id = l.event_id AND p.account_id + 0 = l.account_id AND p.taken_by = l.actor
               AND l.counter_account = CASE p.way WHEN 'cash' THEN 1 ELSE 2 END LIMIT 1)
                IS DISTINCT FROM l.amount
            OR (SELECT t.seq FROM public.transfer t
                WHERE t.account_id = l.account_id AND t.event_id = l.event_id LIMIT 1) IS NOT NULL)
    ) THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'credit is sold for a payment of its own event, account and amount, once';
    END IF;
    IF duty = 'app_operator' AND 11 = ANY (kinds) AND EXISTS (
        SELECT FROM unnest(account_ids, kinds, codes) AS l(account_id, kind, code)
        WHERE l.kind = 11 AND (SELECT d.id FROM public.debt d
            WHERE d.account_id = l.account_id AND d.code = l.code AND d.closed_at IS NULL LIMIT 1) IS NULL
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'a share goes to an open debt of the account';
    END IF;

    -- Who owns the tables needs nobody's agreement.
    IF duty IN ('app_operator', 'app_admin', 'clerk') THEN
        PERFORM public.money_has_its_way(event_ids, account_ids, kinds, counter_accounts, amounts,
                                         corrected_event_ids, corrected_seqs, codes);
    END IF;

    -- Shared with other entries, alone with a closing; FOR SHARE would ask for the right to UPDATE.
    PERFORM pg_advisory_xact_lock_shared(20567, property_id::integer)
        FROM (SELECT DISTINCT property_id FROM public.account_state WHERE account_id = ANY (named)
              ORDER BY property_id) AS touched;
    SELECT l.account_id, l.service_from, p.open_from INTO refused_account, refused_from, books_open_from
        FROM unnest(account_ids, services_from) AS l(account_id, service_from)
        JOIN public.account_state s USING (account_id)
        JOIN public.ledger_period p ON p.property_id = s.property_id
        JOIN public.property e ON e.id = p.property_id
        WHERE l.service_from < p.open_from::timestamp AT TIME ZONE e.time_zone
        LIMIT 1;
    IF refused_account IS NOT NULL THEN
        refusal := 'period_closed';
        RETURN;
    END IF;

    WITH leg AS MATERIALIZED (
        SELECT * FROM unnest(event_ids, account_ids, kinds, components, bands, counter_accounts, amounts,
            energies_wh, tax_rates_ppm, services_from, services_to, corrected_event_ids, corrected_seqs,
            reasons, steps, codes, by_actors)
        WITH ORDINALITY AS t(event_id, account_id, kind, component, band, counter_account, amount,
            energy_wh, tax_rate_ppm, service_from, service_to, corrects_event_id, corrects_seq, reason,
            step, code, actor, ord)
    ), total AS (
        SELECT account_id, count(*) AS legs, sum(amount)::bigint AS amount,
               count(*) FILTER (WHERE kind = 2) AS recharges
        FROM leg GROUP BY account_id
    ), state AS (
        UPDATE public.account_state s
        SET transfer_seq = s.transfer_seq + t.legs, posted = s.posted + t.amount,
            purchase_no = s.purchase_no + t.recharges, updated_at = greatest(s.updated_at, booked)
        FROM total t WHERE s.account_id = t.account_id
        RETURNING s.account_id, s.property_id, s.legal_entity_id,
                  s.transfer_seq - t.legs AS seq_before, s.posted - t.amount AS posted_before
    )
    INSERT INTO public.transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
        component, band, counter_account, amount, posted_after, currency, energy_wh, tax_rate_ppm,
        service_from, service_to, booked_at, corrects_event_id, corrects_seq, actor, reason, step, code)
    SELECT l.account_id,
           s.seq_before + row_number() OVER w,
           s.property_id, s.legal_entity_id, l.event_id, l.kind, l.component, l.band, l.counter_account,
           l.amount,
           s.posted_before + sum(l.amount) OVER w,
           p.currency, l.energy_wh, l.tax_rate_ppm, l.service_from, l.service_to, booked,
           l.corrects_event_id, l.corrects_seq, l.actor, l.reason, l.step, l.code
    FROM leg l
    JOIN state s USING (account_id)
    JOIN public.property p ON p.id = s.property_id
    WINDOW w AS (PARTITION BY l.account_id ORDER BY l.ord)
    ORDER BY l.account_id, l.ord;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality(account_ids) THEN
        RAISE EXCEPTION '% transfers meant, % written', cardinality(account_ids), written;
    END IF;
END $$;
REVOKE ALL ON FUNCTION append_transfers FROM PUBLIC;
