-- What an account's prices depend on besides its plan is what others agreed to, in this very transaction
-- (approvals/sql/0002_ladders.sql). SQLSTATE PW001 says what has changed since it was proposed: terms, closed, begun.

-- The terms that an account has at an instant, as billing/queries.py: terms_at.
CREATE FUNCTION terms_at(account bigint, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH own AS (
        SELECT s.* FROM (
            SELECT DISTINCT ON (t.valid_from) t.* FROM public.account_terms t
            WHERE t.account_id = account ORDER BY t.valid_from, t.id DESC) s
        WHERE NOT s.withdraws)
    SELECT coalesce(
        (SELECT jsonb_build_object('members', o.members, 'contracted_w', o.contracted_w,
                                   'exempt', to_jsonb(o.exempt), 'overlay_groups', to_jsonb(o.overlay_groups))
         -- The first terms also hold before their start.
         FROM own o ORDER BY o.valid_from <= at DESC,
             CASE WHEN o.valid_from <= at THEN o.valid_from END DESC, o.valid_from LIMIT 1),
        '{"members": 1, "contracted_w": 0, "exempt": [], "overlay_groups": []}')
$$;

-- Writes terms from an instant on, or takes those of that instant away (``takes_back``), and returns the row's
-- number. ``since`` is where what held until now is written down first, for an account's first terms would hold
-- before their start too; else NULL. Who owns the tables says it themselves.
CREATE FUNCTION write_terms(
    place bigint, account bigint, begins timestamptz, wanted jsonb, takes_back boolean, since timestamptz,
    maker text, at timestamptz
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    held CONSTANT jsonb := public.terms_at(account, begins);
BEGIN
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('billing.terms', place, 'account:' || account);
        IF (change ->> 'account')::bigint IS DISTINCT FROM account
           OR (change ->> 'valid_from')::timestamptz IS DISTINCT FROM begins
           OR (change ->> 'withdraws')::boolean IS DISTINCT FROM takes_back
           OR change -> (CASE WHEN takes_back THEN 'before' ELSE 'terms' END) IS DISTINCT FROM wanted THEN
            RAISE insufficient_privilege USING MESSAGE = 'other terms were agreed to';
        ELSIF change -> 'before' IS DISTINCT FROM held THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'terms';
        ELSIF since IS NOT NULL AND EXISTS (
            SELECT FROM public.account_terms t WHERE t.account_id = account AND t.valid_from <= begins
                AND NOT t.withdraws) THEN
            RAISE insufficient_privilege USING MESSAGE = 'only first terms have something before them';
        END IF;
    END IF;
    IF NOT EXISTS (SELECT FROM public.account a WHERE a.id = account AND a.property_id = place) THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'account';
    END IF;
    INSERT INTO public.account_terms (property_id, account_id, valid_from, members, contracted_w, exempt,
                                      overlay_groups, made_by, made_at, withdraws)
    SELECT place, account, t.begins, (t.said ->> 'members')::integer, (t.said ->> 'contracted_w')::bigint,
           ARRAY(SELECT jsonb_array_elements_text(t.said -> 'exempt')),
           ARRAY(SELECT jsonb_array_elements_text(t.said -> 'overlay_groups')), maker, at, t.takes_back
    FROM (VALUES (1, since, held, false), (2, begins, wanted, takes_back)) AS t(turn, begins, said, takes_back)
    WHERE t.begins IS NOT NULL ORDER BY t.turn;
    RETURN (SELECT max(t.id) FROM public.account_terms t WHERE t.account_id = account AND t.valid_from = begins);
END $$;
REVOKE ALL ON FUNCTION terms_at, write_terms FROM PUBLIC;

-- Terms have a ladder, by the money that terms of a past day move; nobody sets them alone.
CREATE OR REPLACE FUNCTION usual_limits() RETURNS TABLE (kind text, above bigint, approvers smallint)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES ('vending.refund', 0::bigint, 0::smallint), ('vending.refund', 200000000, 1),
           ('vending.refund', 10000000000, 2),
           ('vending.reversal', 0, 0), ('vending.reversal', 200000000, 1),
           ('vending.reversal', 10000000000, 2),
           ('vending.move', 0, 0), ('vending.move', 200000000, 1), ('vending.move', 10000000000, 2),
           ('debts.write_off', 0, 0), ('debts.write_off', 50000000, 1),
           ('debts.write_off', 5000000000, 2),
           ('ledger.credit', 0, 1), ('ledger.credit', 1000000000, 2),
           ('billing.correction', 0, 1), ('billing.correction', 1000000000, 2),
           ('billing.terms', 0, 1), ('billing.terms', 1000000000, 2),
           ('billing.plans', 0, 0), ('billing.plans', 5, 1), ('billing.plans', 500, 2)
$$;
