-- A debt is closed when nothing is left of it: whoever closed it otherwise would write it off without anybody's
-- agreement. The check waits for the end of the transaction, as its transfers may be written later than it.
CREATE FUNCTION debt_is_settled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF public.needs_agreement() AND EXISTS (
        SELECT FROM public.debt d WHERE d.id = NEW.id AND d.closed_at IS NOT NULL
    ) AND (
        -- 12 is what is owed beside the wallets.
        SELECT coalesce(sum(t.amount), 0) FROM public.transfer t
        WHERE t.account_id = NEW.account_id AND t.counter_account = 12 AND t.code = NEW.code) <> 0 THEN
        RAISE insufficient_privilege USING MESSAGE = format('something is left of %s', NEW.code);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION debt_is_settled FROM PUBLIC;
CREATE CONSTRAINT TRIGGER debt_is_settled AFTER UPDATE OF closed_at ON debt
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.closed_at IS NOT NULL)
    EXECUTE FUNCTION debt_is_settled();
