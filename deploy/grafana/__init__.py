"""Grafana dashboards, as code: `python -m deploy.grafana` (`make dashboards`) writes `dashboards/*.json` from it.

`sources` has the two data sources and what a query to them looks like, `days` the SQL that picks days, `panels` the kinds of
panels, `frame` what all dashboards share; then one module a dashboard. `provisioning/` has Grafana's own files.

Nothing else of the program uses this room, as what it needs (the SDK) is a developer's: what is installed reads the JSON.
"""
