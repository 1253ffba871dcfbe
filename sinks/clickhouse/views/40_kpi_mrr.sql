-- Monthly recurring revenue at the end of a day, in the reporting currency, by the dimensions of kpi_seats, and the
-- annual one: arr = 12 x mrr.
CREATE OR REPLACE VIEW {database}.kpi_mrr
(
    as_of Date32, dimension LowCardinality(String), value String, mrr Decimal(18, 2), arr Decimal(18, 2)
)
AS
SELECT
    held.as_of AS as_of,
    toString(named.dimension) AS dimension,
    named.value AS value,
    held.mrr * toDecimal64('0.01', 2) AS mrr,
    12 * held.mrr * toDecimal64('0.01', 2) AS arr
FROM {database}.held_day AS held
INNER JOIN (SELECT id, dimension, value FROM {database}.billing_cell FINAL) AS named ON named.id = held.cell
