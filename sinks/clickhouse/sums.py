"""Sums over all accounts, kept for as long as no account changes: what views over accounts need is then read, not computed.

They are no figures of their own: a view takes them only when they are of the accounts as they are
(`views/12_current_sums.sql`), and computes them otherwise.
"""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

STEPS = ("held", "growth", "movement", "tier", "retention")
"""Columns of `billing_sums`, less `_steps`: each has the rows of the view of its name and `_step`."""


def accounts_to_sum(client: Client, database: str) -> int | None:
    """The digest of the accounts, if their sums are not kept; None if they are, or there are no accounts."""
    rows = client.query(
        f"SELECT accounts FROM {database}.account_digest WHERE (SELECT count() FROM {database}.current_sums) = 0"
    ).result_rows
    return int(rows[0][0]) if rows else None


def keep_sums(client: Client, database: str, accounts: int) -> None:
    """Computes the sums and keeps them as those of `accounts`. If these change meanwhile, nothing will ever take them."""
    sums = ", ".join(f"(SELECT groupArray(tuple(*)) FROM {database}.{name}_step)" for name in STEPS)
    columns = ", ".join(f"{name}_steps" for name in STEPS)
    client.command(
        f"INSERT INTO {database}.billing_sums (accounts, {columns}) SELECT {accounts}, {sums} SETTINGS max_threads = 1"
    )
