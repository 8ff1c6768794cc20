-- The list of orders has signed instructions that carry no order by their time.
CREATE INDEX instruction_by_time ON instruction (property_id, issued_at, id) WHERE order_id IS NULL;
