-- Internal. The days of billing: from that of the first event of any account, or from an earlier one, to the as-of clock.
CREATE OR REPLACE VIEW {database}.billing_day
(
    as_of Date32
)
AS
SELECT known.first + i AS as_of
-- a row that another version has replaced may begin earlier: no account has rows for the days in between
FROM (SELECT min(first_day) AS first FROM {database}.billing_account HAVING count() > 0) AS known
CROSS JOIN {database}.billing_clock AS clock
ARRAY JOIN range(toUInt32(greatest(dateDiff('day', known.first, clock.clock_day) + 1, 0))) AS i
