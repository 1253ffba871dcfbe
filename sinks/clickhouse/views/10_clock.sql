-- Internal. The as-of clock of each partition of usage-pings: the day up to which the rows of the scopes that live
-- there are written, once for each kind of row made of pings. A partition whose rows are not written yet has no row.
CREATE OR REPLACE VIEW {database}.clock AS
SELECT partition AS home, kind, as_of AS clock_day
FROM {database}.progress FINAL
ARRAY JOIN ['any', 'reported', 'users_by'] AS kind
WHERE topic = 'usage-pings' AND as_of > toDate32('1970-01-01')
