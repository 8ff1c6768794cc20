-- Where an event came from, without a word of whoever writes it: the scope of its transaction has said it
-- (access/scope.py). Rows of before have none. A constant default first, so that no row is written anew.

ALTER TABLE audit_event
    ADD COLUMN request_id varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN duty varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN address varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN browser varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN login varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN transaction bigint,
    ADD COLUMN proposal_id bigint;

ALTER TABLE audit_event
    ALTER request_id SET DEFAULT split_part(coalesce(current_setting('prewatt.request', true), ''), ' ', 1),
    ALTER duty SET DEFAULT split_part(coalesce(current_setting('prewatt.request', true), ''), ' ', 2),
    ALTER address SET DEFAULT split_part(coalesce(current_setting('prewatt.request', true), ''), ' ', 3),
    ALTER browser SET DEFAULT split_part(coalesce(current_setting('prewatt.request', true), ''), ' ', 4),
    ALTER login SET DEFAULT session_user::text,
    ALTER transaction SET DEFAULT pg_current_xact_id()::text::bigint;

-- Each ends with the time and the number, by which the auditor's pages go on from row to row.
DROP INDEX audit_by_time;
DROP INDEX audit_by_subject;
CREATE INDEX audit_by_time ON audit_event (property_id, happened_at, id);
CREATE INDEX audit_by_subject ON audit_event (property_id, subject, happened_at, id);
CREATE INDEX audit_by_actor ON audit_event (property_id, actor, happened_at, id);
CREATE INDEX audit_by_code ON audit_event (property_id, code, happened_at, id);
CREATE INDEX audit_by_transaction ON audit_event (transaction);
