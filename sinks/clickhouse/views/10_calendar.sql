-- Internal. Every day there is, and the period of 28 days that it is in. Views over pings join it by both, so that for the
-- days asked for only pings of these periods and of the one before each are looked at (`ping_in_period`). Periods
-- count from 1900-01-01, where Date32 begins, 25,567 days before the day 0 of its numbers.
CREATE OR REPLACE VIEW {database}.calendar
(
    as_of Date32, period Int64
)
AS
SELECT toDate32('1900-01-01') + number AS as_of, intDiv(toInt32(as_of) + 25567, 28) AS period
FROM numbers(146097)
