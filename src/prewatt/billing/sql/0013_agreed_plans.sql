-- On which plan an account is comes of what was agreed to in this very transaction
-- (approvals/sql/0002_ladders.sql), but for its first plan, which comes with the account. SQLSTATE PW001 says
-- what has changed since it was proposed: plan, closed, begun.

-- The plan that an account is on at an instant; NULL before its first one. As billing/queries.py: HOLDS.
CREATE FUNCTION plan_at(account bigint, at timestamptz) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.tariff_id FROM (
        SELECT DISTINCT ON (t.valid_from) t.valid_from, t.tariff_id, t.withdraws
        FROM public.tariff_assignment t WHERE t.account_id = account AND t.valid_from <= at
        ORDER BY t.valid_from DESC, t.id DESC) s
    WHERE NOT s.withdraws ORDER BY s.valid_from DESC LIMIT 1
$$;

-- Puts accounts on a plan from an instant on, or takes such a change back (``takes_back``: nothing changes at
-- that instant). ``what`` is the kind that was agreed to, ``about`` its subject: billing.plans counts its
-- accounts, and begins after all that they were charged for; what was charged already changes only by
-- billing.correction, whose amount is money. Without a kind it is the first plan of accounts that have none. Who
-- owns the tables says it themselves. Returns how many accounts.
CREATE FUNCTION put_on_plan(
    what text, place bigint, about text, accounts bigint[], plan bigint, begins timestamptz, takes_back boolean
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    made integer;
BEGIN
    IF public.needs_agreement() AND what IN ('billing.plans', 'billing.correction') THEN
        change := public.must_be_agreed(what, place, about);
        IF ARRAY(SELECT each::bigint FROM jsonb_array_elements_text(change -> 'accounts') each)
                IS DISTINCT FROM accounts
           OR (change ->> 'plan')::bigint IS DISTINCT FROM plan
           OR (change ->> 'valid_from')::timestamptz IS DISTINCT FROM begins
           OR (change ->> 'withdraws')::boolean IS DISTINCT FROM takes_back
           OR what = 'billing.plans' AND (change ->> 'amount')::bigint IS DISTINCT FROM cardinality(accounts) THEN
            RAISE insufficient_privilege USING MESSAGE = 'another plan was agreed to';
        END IF;
        IF what = 'billing.plans' AND EXISTS (
            SELECT FROM public.account_state s
            WHERE s.account_id = ANY (accounts) AND s.last_interval_at > begins) THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'begun';
        ELSIF what = 'billing.plans' AND EXISTS (
            SELECT FROM public.account a WHERE a.id = ANY (accounts) AND a.closed_at IS NOT NULL) THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'closed';
        ELSIF EXISTS (
            SELECT FROM unnest(accounts, ARRAY(
                SELECT each::bigint FROM jsonb_array_elements_text(change -> 'before') each)) AS t(account, before)
            WHERE t.before IS DISTINCT FROM public.plan_at(t.account, begins)) THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'plan';
        END IF;
    ELSIF public.needs_agreement() AND (what IS NOT NULL OR takes_back OR EXISTS (
        SELECT FROM public.tariff_assignment t WHERE t.account_id = ANY (accounts))) THEN
        RAISE insufficient_privilege USING MESSAGE = 'another plan takes the agreement of others';
    END IF;
    INSERT INTO public.tariff_assignment (property_id, account_id, tariff_id, valid_from, withdraws)
    SELECT a.property_id, a.id, t.id, begins, takes_back
    FROM public.account a JOIN public.tariff t ON t.property_id = a.property_id
    WHERE a.id = ANY (accounts) AND a.property_id = place AND t.id = plan;
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION plan_at, put_on_plan FROM PUBLIC;
