-- Internal. The as-of clock of each partition of usage-pings: the day up to which the rows of the scopes that live
-- there are written. A partition whose rows are not written yet has no row.
CREATE OR REPLACE VIEW {database}.clock
(
    home UInt32, clock_day Date32
)
AS
SELECT partition AS home, as_of AS clock_day
FROM {database}.progress FINAL
WHERE topic = 'usage-pings' AND as_of > toDate32('1970-01-01')
