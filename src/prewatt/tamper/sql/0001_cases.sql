-- What holds of a case whoever writes: it goes forward only, and what is closed stays as it was closed. Who owns the
-- tables could take it off, so nothing is asked of the owner.

CREATE FUNCTION tamper_case_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state = 3 THEN
        RAISE check_violation USING MESSAGE = 'a case that is closed is not edited';
    ELSIF NEW.state < OLD.state THEN
        RAISE check_violation USING MESSAGE = 'a case goes forward only';
    ELSIF NEW.evidence_count < OLD.evidence_count OR NEW.last_at < OLD.last_at OR NEW.first_at > OLD.first_at THEN
        RAISE check_violation USING MESSAGE = 'evidence of a case grows only';
    ELSIF OLD.looked_at IS NOT NULL
        AND (NEW.looked_at, NEW.looked_by) IS DISTINCT FROM (OLD.looked_at, OLD.looked_by) THEN
        RAISE check_violation USING MESSAGE = 'who looked at a case first stays';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tamper_case_moves BEFORE UPDATE ON tamper_case
    FOR EACH ROW EXECUTE FUNCTION tamper_case_moves();

-- Evidence is of the case's own meter and kind of place, and of one that is open.
CREATE FUNCTION tamper_evidence_fits() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM public.tamper_case c
        WHERE c.id = NEW.case_id AND c.meter_id = NEW.meter_id AND c.property_id = NEW.property_id
          AND c.state <> 3
    ) THEN
        RAISE check_violation USING MESSAGE = 'evidence belongs to an open case of its own meter';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tamper_evidence_fits BEFORE INSERT ON tamper_evidence
    FOR EACH ROW EXECUTE FUNCTION tamper_evidence_fits();
