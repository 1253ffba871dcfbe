-- Each flush is a part. By ClickHouse's own measure (5) a row is merged again once there are five times as many beside it, which takes
-- longer than inserting it; by this one there are 20 times as many. What is at rest is merged as far as ever, a little later.

ALTER TABLE {database}.usage_day MODIFY SETTING merge_selector_base = 20;
ALTER TABLE {database}.ping MODIFY SETTING merge_selector_base = 20;
