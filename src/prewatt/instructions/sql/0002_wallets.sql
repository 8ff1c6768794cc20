ALTER TABLE meter_wallet ADD CONSTRAINT meter_wallet_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);
ALTER TABLE meter_wallet ADD CONSTRAINT meter_wallet_account_of_the_property
    FOREIGN KEY (account_id, property_id) REFERENCES account (id, property_id);

-- What a meter was told or is to be told of credit never falls, and no transfer is counted twice.
CREATE FUNCTION meter_wallet_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF NEW.seen_seq < OLD.seen_seq OR NEW.credit_micro < OLD.credit_micro
       OR NEW.told_micro < OLD.told_micro THEN
        RAISE check_violation USING MESSAGE = 'the credit of a meter does not fall';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meter_wallet_rises BEFORE UPDATE ON meter_wallet
    FOR EACH ROW EXECUTE FUNCTION meter_wallet_rises();
