-- The step that a segment was priced at (0 is the first), and what somebody else paid of it.
ALTER TABLE interval
    ADD COLUMN step           smallint NOT NULL DEFAULT 0 CHECK (step >= 0),
    ADD COLUMN charge_subsidy bigint   NOT NULL DEFAULT 0;
