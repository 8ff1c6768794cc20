-- How interval_hash is made. 2: SHA-256 over the intervals as lines of text (reports/archive.py makes them);
-- 3: over their record_send images (billing/unposted.py). The default stays 2: a process of the release
-- before, which knows of no version, writes that one.
ALTER TABLE posting ADD COLUMN hash_version smallint NOT NULL DEFAULT 2;
-- Not validated: every row there is has the default, and looking at all of them would lock the table long.
ALTER TABLE posting ADD CONSTRAINT posting_hash_version CHECK (hash_version IN (2, 3)) NOT VALID;
