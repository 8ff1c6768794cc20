-- How many microjoules more than full power the register has counted up to last_at, 0 if fewer: what bounds a meter over any
-- span of time, however it is cut into readings (core/vee.py).
ALTER TABLE meter_state ADD COLUMN ahead_uj bigint NOT NULL DEFAULT 0 CHECK (ahead_uj >= 0);
