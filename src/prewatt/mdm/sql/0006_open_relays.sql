-- Since when the relay reads as it does: the first of the reports that agree. Null until the next report
-- after this column came, so that no row had to be written for it.
ALTER TABLE meter_link ADD COLUMN relay_since timestamptz;

-- Open relays are few among many meters, and the only ones that can have departed from a supply that is
-- wanted, or count usage that must not be.
CREATE INDEX meter_link_open ON meter_link (property_id, meter_id) WHERE relay = 2;
