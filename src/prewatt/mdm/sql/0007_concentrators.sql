-- Through which concentrator a device's readings last came; null: always by itself.
ALTER TABLE meter_link ADD COLUMN concentrator_id bigint;
