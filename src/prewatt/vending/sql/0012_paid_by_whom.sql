-- As in 0010_agreed_refunds.sql; and who is said to have paid is who asked for it and whose second factor stands
-- behind it: a session of a duty could else have put a colleague's name to what it handed out itself.
CREATE FUNCTION asked_by(what text, place bigint, about text, who text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM public.proposal p
        WHERE p.property_id = place AND p.kind = what AND p.subject = about AND p.made_by = who
          AND p.agreed_in = pg_current_xact_id()::text::bigint AND p.done_at IS NOT NULL)
$$;
REVOKE ALL ON FUNCTION asked_by FROM PUBLIC;

CREATE OR REPLACE FUNCTION pay_refund_out(which bigint, way text, reference text, by_actor text, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owed public.refund;
    change jsonb;
BEGIN
    SELECT * INTO owed FROM public.refund r WHERE r.id = which AND r.state = 'due' FOR UPDATE;
    IF owed.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PW001', MESSAGE = 'refund';
    END IF;
    IF public.needs_agreement() THEN
        change := public.must_be_agreed('vending.refund', owed.property_id, 'refund:' || which);
        IF (change ->> 'amount')::bigint IS DISTINCT FROM owed.amount_micro OR change ->> 'way' IS DISTINCT FROM way
           OR change ->> 'reference' IS DISTINCT FROM reference THEN
            RAISE insufficient_privilege USING MESSAGE = 'another payment was agreed to';
        END IF;
        IF NOT public.asked_by('vending.refund', owed.property_id, 'refund:' || which, by_actor) THEN
            RAISE insufficient_privilege USING MESSAGE = 'somebody else asked for this payment';
        END IF;
        -- 4 is a refund's transfer, 14 what is owed to who has left.
        IF owed.amount_micro IS DISTINCT FROM (
            SELECT -sum(t.amount) FROM public.transfer t
            WHERE t.account_id = owed.account_id AND t.event_id = owed.event_id AND t.kind = 4
              AND t.counter_account = 14) THEN
            RAISE insufficient_privilege USING MESSAGE = 'a refund is what its event took off the account';
        END IF;
    END IF;
    UPDATE public.refund r SET state = 'paid', paid_way = way, paid_reference = reference,
        paid_by = by_actor, paid_at = at
    WHERE r.id = which;
END $$;
