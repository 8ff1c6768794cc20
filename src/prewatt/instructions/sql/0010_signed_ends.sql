-- That a meter has signed its release is an event of the audit, as every other end of what it holds: so an end past the
-- program is told apart (walls/tables.py, NOTED).
DROP FUNCTION end_wallets(timestamptz, bigint[], bigint[], bigint[], bigint[]);
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
