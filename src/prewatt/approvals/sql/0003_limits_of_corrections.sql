-- A wrong plan put right has its ladder, by the money that it moves; nobody does it alone, however little it is.
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
           ('billing.plans', 0, 0), ('billing.plans', 5, 1), ('billing.plans', 500, 2)
$$;
