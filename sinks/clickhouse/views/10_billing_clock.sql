-- Internal. The as-of clock of everything about billing: one row, or none before there is a clock.
CREATE OR REPLACE VIEW {database}.billing_clock
(
    clock_day Date32
)
AS
SELECT max(as_of) AS clock_day
FROM {database}.progress FINAL
WHERE topic = 'billing-events' AND as_of > toDate32('1970-01-01')
HAVING count() > 0
