-- Seats held at the end of a day: in total, by plan, by deployment, and by the account's geo, territory, segment, buyer
-- persona and acquisition channel. A row for each value that a row of account_kpi has that day.
CREATE OR REPLACE VIEW {database}.kpi_seats
(
    as_of Date32, dimension LowCardinality(String), value String, seats Int64
)
AS
SELECT held.as_of AS as_of, toString(named.dimension) AS dimension, named.value AS value, held.seats AS seats
FROM {database}.held_day AS held
INNER JOIN (SELECT id, dimension, value FROM {database}.billing_cell FINAL) AS named ON named.id = held.cell
