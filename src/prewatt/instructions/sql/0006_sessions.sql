-- Sessions of the short form. Who makes one is the owner of the tables alone; the head-end counts what it refuses and
-- ends a session, and can do no more (walls/rights.py).
ALTER TABLE instruction_session ADD CONSTRAINT instruction_session_of_the_property
    FOREIGN KEY (meter_id, property_id) REFERENCES meter (id, property_id);

-- A session that has ended is not believed again, and what was refused is not forgotten.
CREATE FUNCTION instruction_session_ends() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.forged < OLD.forged OR (OLD.ended_at IS NOT NULL
            AND (NEW.ended_at, NEW.ended_why) IS DISTINCT FROM (OLD.ended_at, OLD.ended_why)))
       AND current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE check_violation USING MESSAGE = 'a session that has ended is not brought back';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER instruction_session_ends BEFORE UPDATE ON instruction_session
    FOR EACH ROW EXECUTE FUNCTION instruction_session_ends();
