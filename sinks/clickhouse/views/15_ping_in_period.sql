-- Internal. Pings by the periods of 28 days in which they may speak: that of recorded_at, and the next. Some are there
-- twice until their rows are merged; of such rows the greatest row_version stands. Windows sort by it behind a
-- ping's identity, in place of FINAL, which looks at every ping and keeps a filter by period from the table.
CREATE OR REPLACE VIEW {database}.ping_in_period AS
SELECT *, intDiv(toInt32(toDate32(recorded_at)) + 25567, 28) AS period
FROM {database}.ping
UNION ALL
SELECT *, intDiv(toInt32(toDate32(recorded_at)) + 25567, 28) + 1 AS period
FROM {database}.ping
