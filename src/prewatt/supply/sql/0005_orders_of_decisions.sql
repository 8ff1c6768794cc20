-- An order stands for a decision: of its own account, to its own kind, and once for each meter; and meter
-- and account are of the property whose duty it is. The gates and the brake are asked where it is decided.

ALTER TABLE account ADD CONSTRAINT account_and_property UNIQUE (id, property_id);
ALTER TABLE supply_order
    ADD CONSTRAINT order_meter_of_the_property FOREIGN KEY (meter_id, property_id)
        REFERENCES meter (id, property_id) NOT VALID,
    ADD CONSTRAINT order_account_of_the_property FOREIGN KEY (account_id, property_id)
        REFERENCES account (id, property_id) NOT VALID;
ALTER TABLE supply_order
    VALIDATE CONSTRAINT order_meter_of_the_property,
    VALIDATE CONSTRAINT order_account_of_the_property;

-- Outcomes are 3 cut, 4 connect; kinds 1 connect, 2 disconnect; state 8 is what would have been.
CREATE FUNCTION order_is_decided() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (
        SELECT FROM public.supply_decision d
        WHERE d.id = NEW.decision_id AND d.account_id = NEW.account_id
          AND d.property_id = NEW.property_id
          AND CASE WHEN NEW.kind = 1 THEN d.outcome = 4
                   WHEN NEW.state = 8 THEN d.outcome = 3 OR d.would_have
                   ELSE d.outcome = 3 AND NOT d.would_have END)
       OR NOT EXISTS (
        SELECT FROM public.meter_assignment a
        WHERE a.account_id = NEW.account_id AND a.meter_id = NEW.meter_id)
       OR EXISTS (
        SELECT FROM public.supply_order o
        WHERE o.decision_id = NEW.decision_id AND o.meter_id = NEW.meter_id) THEN
        RAISE check_violation USING
            MESSAGE = 'an order is of a decision of its own account, for a meter of it, once';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_is_decided BEFORE INSERT ON supply_order
    FOR EACH ROW EXECUTE FUNCTION order_is_decided();

-- As before (0004_guards.sql); but however far ahead an account's own clock was set, no further than the
-- latest instant that anything may be booked for.
CREATE OR REPLACE FUNCTION hold_is_bounded() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.payment_hold_until > interval '8 days' + greatest(clock_timestamp(), least(
        public.latest_instant(),
        (SELECT s.updated_at FROM public.account_state s WHERE s.account_id = NEW.account_id))) THEN
        RAISE check_violation USING MESSAGE = 'a payment hold is a week at most';
    END IF;
    RETURN NEW;
END $$;
