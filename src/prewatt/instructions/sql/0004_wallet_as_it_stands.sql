-- A wallet in a meter begins with what its account has, and with nothing else: who may write the first row (an
-- administrator, who decides which meter holds its credit) could else have a meter told of credit that nobody paid.
-- It is the account that the meter counts for, whose transfers up to here are in the sum; what the meter was told
-- before and has used stays in its lifetime (instructions/wallets.hold_credit says the same).
CREATE FUNCTION meter_wallet_begins() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seq bigint;
    total bigint;
    told bigint;
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    SELECT s.transfer_seq, greatest(s.available, 0) + coalesce(i.credit_micro - i.balance_micro, 0),
           coalesce(i.credit_micro, 0)
    INTO seq, total, told
    FROM public.account_state s
    JOIN public.meter_assignment a ON a.account_id = s.account_id AND a.meter_id = NEW.meter_id
         AND a.period @> NEW.since
    LEFT JOIN public.instruction_state i ON i.meter_id = a.meter_id
    WHERE s.account_id = NEW.account_id AND s.property_id = NEW.property_id;
    IF (NEW.seen_seq, NEW.total_micro, NEW.credit_micro, NEW.told_micro)
       IS DISTINCT FROM (seq, total, greatest(total, told), told) THEN
        RAISE check_violation USING MESSAGE = 'a meter holds what its account has';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meter_wallet_begins BEFORE INSERT ON meter_wallet
    FOR EACH ROW EXECUTE FUNCTION meter_wallet_begins();
