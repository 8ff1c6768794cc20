-- What a property does about credit that is used, and about what a let lacks, is what others agreed to in this
-- very transaction (approvals/sql/0002_ladders.sql): it decides what becomes the property's loss. SQLSTATE PW001:
-- the policy is another by now. Who owns the tables says it themselves.
CREATE FUNCTION change_debt_policy(place bigint, policy jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
    former jsonb;
BEGIN
    SELECT to_jsonb(d) - '{property_id,changed_at}'::text[] INTO former
    FROM public.debt_policy d WHERE d.property_id = place FOR UPDATE;
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('debts.policy', place, 'debts');
        IF change -> 'policy' IS DISTINCT FROM policy THEN
            RAISE insufficient_privilege USING MESSAGE = 'another policy was agreed to';
        ELSIF nullif(change -> 'stored', 'null') IS DISTINCT FROM former THEN
            RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'debts';
        END IF;
    END IF;
    INSERT INTO public.debt_policy (property_id, reversed_payment, moved_credit, let_shortfall, later_let_pays,
                                    share_ppm, weekly_cap_micro, changed_at)
    SELECT place, p.reversed_payment, p.moved_credit, p.let_shortfall, p.later_let_pays, p.share_ppm,
           p.weekly_cap_micro, at
    FROM jsonb_to_record(policy) AS p(reversed_payment text, moved_credit text, let_shortfall text,
                                      later_let_pays boolean, share_ppm integer, weekly_cap_micro bigint)
    ON CONFLICT (property_id) DO UPDATE
    SET reversed_payment = excluded.reversed_payment, moved_credit = excluded.moved_credit,
        let_shortfall = excluded.let_shortfall, later_let_pays = excluded.later_let_pays,
        share_ppm = excluded.share_ppm, weekly_cap_micro = excluded.weekly_cap_micro,
        changed_at = excluded.changed_at;
END $$;
REVOKE ALL ON FUNCTION change_debt_policy FROM PUBLIC;
