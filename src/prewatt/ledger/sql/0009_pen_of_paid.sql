-- The same pen (0005_pen.sql says what it is), which now asks what is behind a leg: credit is sold for a
-- payment of the same event, account, amount, way and person, once; and what an operator takes of a
-- recharge it takes of that one recharge, and no more than there is.

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
