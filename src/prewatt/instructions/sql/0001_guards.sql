-- What holds of instructions whoever asks. The code says the same; this is for who has a process's credential
-- and not our code. Who owns the tables could take all of it off, so nothing is asked of the owner.

ALTER TABLE meter_key ADD CONSTRAINT meter_key_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);
ALTER TABLE instruction_state ADD CONSTRAINT instruction_state_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);

-- 1 issued, 2 sent, 3 answered, 4 refused, 5 expired, 6 superseded. What its meter has signed an answer to
-- never changes; a late answer still ends what had expired or was superseded. That an answer is there is the
-- table's own constraint, and whether it is signed the columns let anybody verify again.
CREATE FUNCTION instruction_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF OLD.state IN (3, 4) OR (OLD.state IN (5, 6) AND NEW.state IN (1, 2))
       OR NEW.tries < OLD.tries THEN
        RAISE check_violation USING
            MESSAGE = format('an instruction does not go from state %s to %s', OLD.state, NEW.state);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER instruction_moves BEFORE UPDATE ON instruction
    FOR EACH ROW EXECUTE FUNCTION instruction_moves();

-- An instruction takes the number that its meter's sequence has come to.
CREATE FUNCTION instruction_is_next() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (
        SELECT FROM public.instruction_state s
        WHERE s.meter_id = NEW.meter_id AND s.property_id = NEW.property_id
          AND s.last_sequence = NEW.sequence) THEN
        RAISE check_violation USING MESSAGE = 'an instruction takes the next number of its meter';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER instruction_is_next BEFORE INSERT ON instruction
    FOR EACH ROW EXECUTE FUNCTION instruction_is_next();

-- Nothing of a meter's standing goes back: no number is given twice, no credit is had less of.
CREATE FUNCTION instruction_state_rises() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF NEW.last_sequence < OLD.last_sequence OR NEW.known_sequence < OLD.known_sequence
       OR NEW.credit_micro < OLD.credit_micro OR NEW.known_sequence > NEW.last_sequence THEN
        RAISE check_violation USING MESSAGE = 'the standing of a meter does not go back';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER instruction_state_rises BEFORE UPDATE ON instruction_state
    FOR EACH ROW EXECUTE FUNCTION instruction_state_rises();

-- A key is never believed again that was revoked, nor longer than was said.
CREATE FUNCTION meter_key_ends() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF OLD.revoked_at IS NOT NULL OR (OLD.valid_until IS NOT NULL AND (
           NEW.valid_until IS NULL OR NEW.valid_until > OLD.valid_until)) THEN
        RAISE check_violation USING MESSAGE = 'a key that has ended is not brought back';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meter_key_ends BEFORE UPDATE ON meter_key
    FOR EACH ROW EXECUTE FUNCTION meter_key_ends();
