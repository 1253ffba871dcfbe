"""What must be true at the end of a run, whatever went wrong in it."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from schemas.dead_letters import HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON
from schemas.ping import EPOCH
from sinks.topics import BILLING_EVENTS, dead_letter_topic
from streams.ledger.billing import book as billing
from streams.ledger.book import Book, UsageRows
from streams.ledger.kernels import WINDOW
from streams.ledger.names import Names
from streams.ledger.redaction import redact
from streams.ledger.state import HEADER
from tests.oracle.billing import BillingExpected
from tests.simulation.clickhouse import TABLES
from tests.simulation.consumer import SimulatedTable, fetched
from tests.simulation.run import Outcome, run
from tests.simulation.worker import pseudonymiser, rules
from tests.simulation.world import World, expected, make, source_logs

EPOCH_DAY = EPOCH.date()
Rows = dict[tuple[Any, ...], dict[str, Any]]
NAMES = ("figure_name", "billing_cell")
SHOWN = 3


def wrong(outcome: Outcome) -> list[str]:
    """Everything that is wrong with a run, in words; nothing when all is well."""
    world = outcome.world
    found = list(outcome.wrong)
    if found:
        return found
    undisturbed = reference(world.number, world.lane.topic == BILLING_EVENTS)
    for name, rows in undisturbed.tables.items():
        if name not in NAMES:  # which have those of what stood there for a while, too
            found += difference(name, rows, table(outcome, name))
    found += nameless(outcome)
    found += wrong_letters(outcome, undisturbed.expected)
    found += wrong_epochs(outcome)
    found += wrong_state(outcome)
    found += wrong_outcomes(outcome, undisturbed.expected)
    found += unbalanced(outcome)
    return found


class Reference:
    """What comes of a world when nothing goes wrong, and what the oracle says of it."""

    def __init__(self, world: World) -> None:
        outcome = run(world, None)
        self.expected = expected(world)
        self.tables = {name: table(outcome, name) for name in TABLES}
        found = outcome.wrong + wrong_oracle(outcome, self) + wrong_state(outcome)
        found += wrong_letters(outcome, self.expected, once=True) + wrong_outcomes(outcome, self.expected, once=True)
        if found:
            raise AssertionError(f"world {world.number} of {world.lane.topic}, undisturbed: " + "\n".join(found))


@lru_cache(maxsize=64)
def reference(number: int, of_billing: bool) -> Reference:
    """The reference of a world."""
    return Reference(make(number, of_billing))


# ---- tables --------------------------------------------------------------------------------------------------------------


def table(outcome: Outcome, name: str) -> Rows:
    """The rows of a table by their keys, without versions; figures of `usage_day` by their names."""
    return {key: row.content(name) for key, row in outcome.clickhouse.rows[name].items()}


def difference(name: str, wanted: Rows, found: Rows) -> list[str]:
    """What tells two tables apart."""
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    other = [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]
    said = [f"{name}: {key} is missing" for key in sorted(missing)[:SHOWN]]
    said += [f"{name}: {key} is too much" for key in sorted(extra)[:SHOWN]]
    for key in sorted(other)[:SHOWN]:
        names = wanted[key].keys() | found[key].keys()
        fields = [n for n in sorted(names, key=str) if wanted[key].get(n) != found[key].get(n)]
        some = {n: (found[key].get(n), wanted[key].get(n)) for n in fields[:SHOWN]}
        said.append(f"{name}: {key} is other than without faults, (found, wanted) {some}")
    return said


def nameless(outcome: Outcome) -> list[str]:
    """Figures and cells without a name."""
    rows = outcome.clickhouse.rows
    used = {name for row in rows["usage_day"].values() for name in row.values()["names"]}
    used |= {name for row in rows["ping"].values() for name in row.values()["reported_names"]}
    cells = {cell for row in rows["billing_account"].values() for cut in row.values()["cut_cells"] for cell in cut}
    return [
        f"{name} lacks {sorted(lacking)[:SHOWN]}"
        for name, lacking in (
            ("figure_name", used - {key for (key,) in rows["figure_name"]}),
            ("billing_cell", cells - {key for (key,) in rows["billing_cell"]}),
        )
        if lacking
    ]


# ---- letters and outcomes --------------------------------------------------------------------------------------------------


def wrong_letters(outcome: Outcome, wanted: BillingExpected, *, once: bool = False) -> list[str]:
    """Letters in the topic and in the table against the oracle's, by place. `once`: each is in the topic once only."""
    lane, sources = outcome.world.lane, source_logs(outcome.world)
    reasons = {(row["partition"], row["offset"]): row["reason"] for row in wanted.dead_letter}
    found: dict[tuple[int, int], set[tuple[str, bytes]]] = defaultdict(set)
    number = 0
    for log in outcome.broker.topic(dead_letter_topic(lane.topic)):
        for letter in log:
            headers = {name: value.decode() for name, value in letter.headers}
            place = int(headers[HEADER_PARTITION]), int(headers[HEADER_OFFSET])
            found[place].add((headers[HEADER_REASON], letter.value or b""))
            number += 1
    letters = {
        place: {(reason, redact(sources[place[0]][place[1]].value)[0] or b"")} for place, reason in reasons.items()
    }
    said = []
    if found != letters:
        said += [f"dead letter {place} is missing in the topic" for place in sorted(letters.keys() - found.keys())]
        said += [f"dead letter {place} is too much in the topic" for place in sorted(found.keys() - letters.keys())]
        said += [
            f"dead letter {place} is other than it should be, {found[place]}"
            for place in sorted(found.keys() & letters.keys())
            if found[place] != letters[place]
        ]
    if once and number != len(letters):
        said.append(f"{number} dead letters where {len(letters)} are due")
    rows = {(key[1], key[2]): row["reason"] for key, row in table(outcome, "letter").items()}
    if rows != reasons:
        said.append(f"letters in the table: {sorted(rows.items() ^ reasons.items())[:SHOWN]}")
    return said


def wrong_outcomes(outcome: Outcome, wanted: BillingExpected, *, once: bool = False) -> list[str]:
    """Outcomes as the workers' metrics have counted them: of each at least as many as there are, and no more in all than
    messages were acknowledged. A message that is delivered again, after a crash, counts again."""
    topic = outcome.world.lane.topic
    counted: Counter[str] = Counter()
    for worker in outcome.workers:
        for name in ("applied", "duplicate", "dead"):
            value = worker.metrics.registry.get_sample_value(
                "pingstream_events_total", {"topic": topic, "outcome": name}
            )
            counted[name] += int(value or 0)
    due = Counter({name: number for (of, name), number in wanted.outcomes.items() if of == topic})
    if any(counted[name] < due[name] for name in due) or (once and +counted != due):
        return [f"outcomes {dict(counted)} where {dict(due)} are due"]
    return []


def unbalanced(outcome: Outcome) -> list[str]:
    """What workers' metrics say of messages that were read and have no outcome; also of workers that were killed."""
    labels = {"topic": outcome.world.lane.topic}
    found = {
        worker.process.name: worker.metrics.registry.get_sample_value("pingstream_balance_messages", labels)
        for worker in outcome.workers
    }
    return [f"the balance of {name} is {value}" for name, value in found.items() if value != 0]


# ---- state -----------------------------------------------------------------------------------------------------------------


def wrong_epochs(outcome: Outcome) -> list[str]:
    """Each epoch of a partition has one owner. What an older one wrote over is written again as it was, by a newer one."""
    said = []
    for partition, log in enumerate(_changelog(outcome)):
        owners: dict[int, set[str]] = defaultdict(set)
        known: set[tuple[bytes, bytes]] = set()
        for record in log:
            _, _, epoch, _ = HEADER.unpack_from(record.value)
            if (record.key, record.value) not in known:
                owners[epoch].add(record.writer)
            known.add((record.key, record.value))
        said += [
            f"epoch {epoch} of partition {partition} has the owners {sorted(some)}"
            for epoch, some in owners.items()
            if len(some) > 1
        ]
    return said


def _changelog(outcome: Outcome) -> list[Any]:
    return outcome.broker.topic(f"simulated-{outcome.world.lane.table}-changelog")


def wrong_state(outcome: Outcome) -> list[str]:
    """Rows that are made of the recovered state are those of the tables."""
    lane = outcome.world.lane
    of_billing = lane.topic == BILLING_EVENTS
    store = SimulatedTable("changelog").data
    said: list[str] = []
    found: dict[str, Rows] = {"account": {}} if of_billing else {"usage_day": {}}
    names = Names()
    identities = 0
    known_from: dict[tuple[str, str, int], int] = {}  # days before it have left the state: their rows are final
    for partition, log in enumerate(_changelog(outcome)):
        store.apply_changelog_batch([fetched(partition, log)], lambda key: key, lambda value: value)
        values = store.of_partition(partition)
        if of_billing:
            account = billing.Book(partition, values, rules(lane))
            if account.dirty:
                said.append(f"partition {partition}: {account.dirty} accounts are still to be written")
            found["account"].update({(account_id,): {} for account_id in account.accounts})
            for (account_id,), row in table(outcome, "billing_account").items():
                if row["home"] == partition and account_id in account.accounts:
                    ids = {event.event_id for event in account.events(account_id)}
                    lacking = set(row["movement_event"] + row["addon_event"]) - ids
                    if lacking:
                        said.append(f"the state of {account_id} lacks the events {sorted(lacking)[:SHOWN]}")
        else:
            book = Book(partition, values, names, pseudonymiser(), rules(lane))
            usage = UsageRows()
            last_day = (outcome.world.as_of - EPOCH_DAY).days
            for scope in book.all_scopes():
                ledger = scope.ledger
                identities += sum(len(times) // 8 for _, times in scope.pings.items())
                known_from[*scope.key, partition] = max(0, ledger.first_day, ledger.floor + WINDOW)
                if ledger.reach >= 0:
                    first_day = known_from[*scope.key, partition]
                    usage.add(book.directory, [(scope, first_day, min(last_day, ledger.last_day))], partition)
            found["usage_day"].update(_rows_of(usage))
    if of_billing:
        wanted = {key: {} for key in table(outcome, "billing_account")}
        said += difference("accounts of the recovered state", wanted, found["account"])
    else:
        figures = {
            key: row
            for key, row in table(outcome, "usage_day").items()
            if (key[2] - EPOCH_DAY).days >= known_from.get((key[0], key[3], key[4]), 0)
        }
        said += difference("figures of the recovered state", figures, found["usage_day"])
        if identities != len(outcome.clickhouse.rows["ping"]):
            said.append(f"the recovered state knows {identities} pings of {len(outcome.clickhouse.rows['ping'])}")
    return said


def _rows_of(usage: UsageRows) -> Rows:
    """Rows of `usage_day`, by the key of the table, as `table` gives them."""
    found: Rows = {}
    if not usage.scopes:
        return found
    figures, at = usage.figures, 0
    days, lengths, counted = (
        iter(np.concatenate(some).tolist()) for some in (usage.days, usage.lengths, usage.counted)
    )
    columns = [column.tolist() for column in (figures.name, figures.dau, figures.wau, figures.mau, figures.sessions)]
    for scope, shard, rows in zip(usage.scopes, usage.shards, usage.repeats, strict=True):
        for day in islice(days, rows):
            length, some = next(lengths), next(counted)
            found[scope.population, "exact", EPOCH_DAY + dt.timedelta(day), scope.scope_id, shard] = {
                columns[0][place]: (
                    *((columns[1][place], columns[2][place], columns[3][place]) if place < at + some else ()),
                    columns[4][place],
                )
                for place in range(at, at + length)
            }
            at += length
    return found


# ---- the oracle --------------------------------------------------------------------------------------------------------------


def wrong_oracle(outcome: Outcome, undisturbed: Reference) -> list[str]:
    """The tables of a run against the oracle: exact figures and pings; seat movements. `test_engine` has all views."""
    wanted = undisturbed.expected
    if outcome.world.lane.topic == BILLING_EVENTS:
        movements: Rows = {}
        for (account,), row in undisturbed.tables["billing_account"].items():
            columns = ("event", "kind", "seats_from", "seats_to", "mrr_from", "mrr_to")
            for at, *values in zip(row["movement_at"], *(row[f"movement_{name}"] for name in columns), strict=True):
                if at.date() <= outcome.world.as_of:
                    movements[account, values[0]] = dict(zip(columns[1:], values[1:], strict=True))
        due = {
            (row["account_id"], row["event_id"]): {
                "kind": row["kind"], "seats_from": row["seats_from"], "seats_to": row["seats_to"],
                "mrr_from": int(row["mrr_from"] * 100), "mrr_to": int(row["mrr_to"] * 100),
            }
            for row in wanted.seat_movement
        }  # fmt: skip
        return difference("seat movements", due, movements)
    names = {key[0]: (row["stage"], row["feature"]) for key, row in undisturbed.tables["figure_name"].items()}
    figures: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for (population, _, day, scope_id, _), row in undisturbed.tables["usage_day"].items():
        for name, values in row.items():
            if len(values) == 4:
                key = day, population, scope_id, *names[name]
                figures[key] = [a + b for a, b in zip(figures[key], values[:3], strict=True)]
    exact = {
        (row["as_of"], row["population"], row["scope_id"], row["stage"], row["feature"]): {
            "figures": [row["dau"], row["wau"], row["mau"]]
        }
        for row in wanted.usage_kpi
        if row["basis"] == "exact"
    }
    said = difference("exact figures", exact, {key: {"figures": value} for key, value in figures.items()})
    if len(wanted.usage_ping) != len(undisturbed.tables["ping"]):
        said.append(f"{len(undisturbed.tables['ping'])} pings where {len(wanted.usage_ping)} are due")
    return said
