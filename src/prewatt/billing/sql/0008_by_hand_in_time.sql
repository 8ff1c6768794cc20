-- The same function (0007_by_hand.sql says what it is), which now takes only time that has come: a segment up
-- to the year 9999 would leave nothing for any reading after it.

DROP FUNCTION charge_by_hand;
-- Charges segments (rows of interval, as JSON; their numbers are given here) and moves their accounts and
-- registers by exactly what they come to. counts says how far steps and allowances are afterwards, a row
-- of account_state for each account. Returns the accounts that fell below the level that supply watches.
CREATE FUNCTION charge_by_hand(lines jsonb, counts jsonb, at timestamptz) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- One reading of a person cuts into few; this is what a long gap and a late reading come to at most.
    most CONSTANT integer := 20000;
    given CONSTANT public.interval[] := ARRAY(
        SELECT r FROM jsonb_populate_recordset(NULL::public.interval, lines) AS r);
    first CONSTANT timestamptz := '1900-01-01 00:00:00+00';
    latest CONSTANT timestamptz := public.latest_instant();
    accounts bigint[];
    moved bigint;
BEGIN
    IF cardinality(given) NOT BETWEEN 1 AND most THEN
        RAISE check_violation USING MESSAGE = format('%s segments at once', cardinality(given));
    END IF;
    IF (at BETWEEN first AND latest) IS NOT TRUE OR EXISTS (
        SELECT FROM unnest(given) AS g
        WHERE least(g.start_at, g.from_at, g.to_at, g.received_at) < first
           OR greatest(g.start_at, g.from_at, g.to_at, g.received_at) > latest
    ) THEN
        RAISE check_violation USING MESSAGE = 'a segment lies in time that has not come';
    END IF;
    accounts := ARRAY(SELECT DISTINCT account_id FROM unnest(given) ORDER BY account_id);
    PERFORM FROM public.account_state WHERE account_id = ANY (accounts)
        ORDER BY account_id FOR NO KEY UPDATE;

    -- Each segment is of a register that its account pays by, under a tariff that is its own, and comes to
    -- what its energy costs. Nothing in a plan is negative; what gives nevertheless is a rebate, and a step
    -- whose price holds for everything used so far.
    IF EXISTS (
        SELECT FROM unnest(given) AS g
        LEFT JOIN public.meter_state m ON m.account_id = g.account_id AND m.meter_id = g.meter_id
            AND m.register_code = g.register_code AND m.property_id = g.property_id
            AND m.multiplier = g.multiplier
        LEFT JOIN public.tariff_version v ON v.id = g.tariff_version_id
            AND EXISTS (SELECT FROM public.tariff_assignment a
                        WHERE a.account_id = g.account_id AND a.tariff_id = v.tariff_id)
        CROSS JOIN LATERAL (SELECT v.content::text ~ '"(whole_usage|rebate)"') AS c(may_give)
        WHERE m.account_id IS NULL OR v.id IS NULL OR g.register_code <> 1
           OR g.charge_standing <> 0 OR g.charge_demand <> 0
           OR g.segment < 10000 AND (
               g.energy_wh < 0 OR g.price_nano < 0 OR g.charge_fee < 0 OR g.charge_tax < 0
               OR g.charge_subsidy > 0
               OR NOT c.may_give AND (
                   g.charge_energy::numeric * 1000000 + g.rest_energy
                       <> g.energy_wh::numeric * g.price_nano
                   OR g.charge_energy + g.charge_fee + g.charge_tax + g.charge_subsidy < -3))
    ) THEN
        RAISE check_violation USING MESSAGE = 'a segment is not of its account, register and tariff';
    END IF;
    -- What is taken back is what stands, once (the key sees to that), and exactly.
    IF EXISTS (
        SELECT FROM unnest(given) AS g
        LEFT JOIN public.interval i ON i.account_id = g.account_id AND i.meter_id = g.meter_id
            AND i.register_code = g.register_code AND i.start_at = g.start_at
            AND i.revision = g.revision - 1 AND i.segment = g.segment - 10000
        WHERE g.segment >= 10000 AND (
            i.account_id IS NULL OR g.energy_wh <> -i.energy_wh
            OR (g.from_at, g.to_at) <> (i.from_at, i.to_at)
            OR (g.charge_energy::numeric * 1000000 + g.rest_energy,
                g.charge_fee::numeric * 1000000000 + g.rest_fee,
                g.charge_tax::numeric * 1000000000 + g.rest_tax,
                g.charge_subsidy::numeric * 1000000000 + g.rest_subsidy)
               <> (-i.charge_energy::numeric * 1000000 - i.rest_energy,
                   -i.charge_fee::numeric * 1000000000 - i.rest_fee,
                   -i.charge_tax::numeric * 1000000000 - i.rest_tax,
                   -i.charge_subsidy::numeric * 1000000000 - i.rest_subsidy))
    ) THEN
        RAISE check_violation USING MESSAGE = 'what is taken back is not what was charged';
    END IF;
    -- Invariant 5: as much energy is charged as the register went on, from where it stood.
    IF EXISTS (
        SELECT FROM public.meter_state m
        JOIN (SELECT account_id, meter_id, sum(energy_wh) AS energy,
                     max(to_at) FILTER (WHERE segment < 10000) AS latest,
                     (array_agg(end_value_wh ORDER BY to_at DESC) FILTER (WHERE segment < 10000))[1]
                         AS value
              FROM unnest(given) GROUP BY account_id, meter_id) AS g USING (account_id, meter_id)
        WHERE m.register_code = 1 AND (
            g.latest IS NULL OR g.value < 0 OR g.value >= m.modulus_wh
            OR g.energy <> CASE WHEN g.latest > m.last_at
                THEN (g.value - m.last_value_wh + m.modulus_wh) % m.modulus_wh * m.multiplier
                ELSE 0 END
            OR g.latest > m.last_at AND m.last_at <> (
                SELECT min(f.from_at) FROM unnest(given) AS f
                WHERE f.account_id = m.account_id AND f.meter_id = m.meter_id AND f.segment < 10000
                  AND f.to_at > m.last_at))
    ) THEN
        RAISE check_violation USING MESSAGE = 'what is charged is not what the register counted';
    END IF;

    INSERT INTO public.interval (account_id, meter_id, register_code, start_at, revision, segment,
        property_id, interval_no, from_at, to_at, start_value_wh, end_value_wh, multiplier, energy_wh,
        quality, source, received_at, tariff_version_id, band, price_nano, step, charge_energy,
        charge_standing, charge_tax, charge_fee, charge_demand, charge_subsidy, rest_energy, rest_fee,
        rest_tax, rest_subsidy)
    SELECT g.account_id, g.meter_id, g.register_code, g.start_at, g.revision, g.segment,
        g.property_id, s.interval_no + row_number() OVER (PARTITION BY g.account_id ORDER BY g.place),
        g.from_at, g.to_at, g.start_value_wh, g.end_value_wh, g.multiplier, g.energy_wh,
        g.quality, g.source, g.received_at, g.tariff_version_id, g.band, g.price_nano, g.step,
        g.charge_energy, 0, g.charge_tax, g.charge_fee, 0, g.charge_subsidy, g.rest_energy, g.rest_fee,
        g.rest_tax, g.rest_subsidy
    FROM (SELECT *, row_number() OVER () AS place FROM unnest(given)) AS g
    JOIN public.account_state s USING (account_id)
    ORDER BY g.account_id, g.place;

    -- An account's carries are the sums of the rests of its rows.
    UPDATE public.account_state s
    SET accrued_energy = s.accrued_energy + t.energy, accrued_fee = s.accrued_fee + t.fee,
        accrued_tax = s.accrued_tax + t.tax, accrued_subsidy = s.accrued_subsidy + t.subsidy,
        carry_energy = s.carry_energy + t.energy_rest, carry_fee = s.carry_fee + t.fee_rest,
        carry_tax = s.carry_tax + t.tax_rest, carry_subsidy = s.carry_subsidy + t.subsidy_rest,
        interval_no = s.interval_no + t.lines,
        last_interval_at = greatest(s.last_interval_at, t.latest),
        updated_at = greatest(s.updated_at, at),
        step_window = c.step_window, step_wh = coalesce(c.step_wh, s.step_wh),
        allowance_window = c.allowance_window, allowance_wh = c.allowance_wh
    FROM (SELECT account_id, count(*) AS lines, max(to_at) AS latest,
                 sum(charge_energy)::bigint AS energy, sum(charge_fee)::bigint AS fee,
                 sum(charge_tax)::bigint AS tax, sum(charge_subsidy)::bigint AS subsidy,
                 sum(rest_energy)::bigint AS energy_rest, sum(rest_fee)::bigint AS fee_rest,
                 sum(rest_tax)::bigint AS tax_rest, sum(rest_subsidy)::bigint AS subsidy_rest
          FROM unnest(given) GROUP BY account_id) AS t
    JOIN jsonb_populate_recordset(NULL::public.account_state, counts) AS c USING (account_id)
    WHERE s.account_id = t.account_id
      AND greatest(s.carry_fee + t.fee_rest, s.carry_tax + t.tax_rest,
                   s.carry_subsidy + t.subsidy_rest) < 1000000000;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(accounts) THEN
        RAISE check_violation USING
            MESSAGE = format('%s accounts meant, %s moved', cardinality(accounts), moved);
    END IF;
    UPDATE public.meter_state m SET last_at = g.latest, last_value_wh = g.value, received_at = at
    FROM (SELECT DISTINCT ON (account_id, meter_id) account_id, meter_id, to_at AS latest,
                 end_value_wh AS value
          FROM unnest(given) WHERE segment < 10000
          ORDER BY account_id, meter_id, to_at DESC) AS g
    WHERE m.account_id = g.account_id AND m.meter_id = g.meter_id AND m.register_code = 1
      AND m.last_at < g.latest;
    RETURN ARRAY(SELECT account_id FROM public.account_state
                 WHERE account_id = ANY (accounts) AND available < watch_below ORDER BY account_id);
END $$;
REVOKE ALL ON FUNCTION charge_by_hand FROM PUBLIC;
