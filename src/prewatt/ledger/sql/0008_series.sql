-- Invariant 10, for whoever has a credential and not our code: a series counts up, by as many as there
-- are papers with these numbers, and no paper has a number that its series has not reached.

-- Looked at as the transaction ends, when the papers are written. A refund (series F) is its own paper.
CREATE FUNCTION series_is_used() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before bigint := 0;
    papers bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := OLD.last_number;
    END IF;
    SELECT count(*) INTO papers FROM public.document d
    WHERE d.legal_entity_id = NEW.legal_entity_id AND d.series = NEW.series
      AND d.number > before AND d.number <= NEW.last_number;
    IF papers = 0 AND NEW.series = 'F' THEN
        SELECT count(DISTINCT r.number) INTO papers FROM public.refund r
        JOIN public.property p ON p.id = r.property_id
        WHERE p.legal_entity_id = NEW.legal_entity_id
          AND r.number > before AND r.number <= NEW.last_number;
    END IF;
    IF papers <> NEW.last_number - before OR TG_OP = 'UPDATE' AND papers = 0 THEN
        RAISE check_violation USING MESSAGE = format(
            'series %s of legal entity %s goes from %s to %s with %s papers',
            NEW.series, NEW.legal_entity_id, before, NEW.last_number, papers);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION series_is_used FROM PUBLIC;
CREATE CONSTRAINT TRIGGER series_is_used AFTER INSERT OR UPDATE ON document_series
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION series_is_used();

-- Who owns the table could take this off, so nothing is asked of the owner.
CREATE FUNCTION papers_are_numbered() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID)
       AND EXISTS (SELECT FROM made m LEFT JOIN public.document_series s USING (legal_entity_id, series)
                   WHERE m.number > coalesce(s.last_number, 0)) THEN
        RAISE check_violation USING MESSAGE = 'a document takes its number from its series';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER papers_are_numbered AFTER INSERT ON document
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION papers_are_numbered();
