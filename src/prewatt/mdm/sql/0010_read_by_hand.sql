-- Where a person's reading moved the watermark to. Until the meter itself reports something later, the
-- watermark says nothing of whether it lives. Null where nobody ever read it so, and no row had to be written.
ALTER TABLE meter_link ADD COLUMN read_by_hand_at timestamptz;
