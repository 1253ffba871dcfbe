"""The many numbers of today's payloads that no figure is made from, and those that only `kpi_feature_mau` shows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from deploy.fleet.dice import Dice
from deploy.fleet.product import MONTHLY

VERBS: Final = (
    "approved", "assigned", "closed", "commented", "created", "deleted", "exported", "filtered", "opened", "pinned",
    "searched", "viewed",
)  # fmt: skip
THINGS: Final = (
    "access_token", "approval_rule", "branch", "changelog", "cohort", "dashboard", "design", "environment", "flag",
    "iteration", "label", "list", "mirror", "note", "pipeline", "release", "roadmap", "runner", "schedule", "tag",
)  # fmt: skip
STAGES: Final = ("create", "verify", "plan", "secure", "package", "manage", "release", "enablement")
CATEGORIES: Final = (
    "analytics", "ci_templates", "code_review", "compliance", "deploy_token", "ecosystem", "editor", "importer",
    "pipeline_authoring", "quickactions", "search", "source_control", "terraform", "testing", "work_items",
)  # fmt: skip


@lru_cache
def paths(number: int) -> tuple[tuple[str, ...], ...]:
    """Where that many leaves stand: six of ten in `redis_hll_counters`, three in `counts`, one in a stage."""
    return tuple(_paths(number))


def _paths(number: int) -> Iterator[tuple[str, ...]]:
    for index in range(number):
        serial, kind = divmod(index, 10)
        # Each kind goes through all names before one comes back with a number.
        turn = serial if kind == 0 else serial * 3 + kind - 1 if kind < 4 else serial * 6 + kind - 4
        again, name = divmod(turn, len(VERBS) * len(THINGS))
        thing, verb = divmod(name, len(VERBS))
        leaf = f"{THINGS[thing]}_{VERBS[verb]}{again or ''}"
        if kind == 0:
            yield MONTHLY, STAGES[turn % len(STAGES)], leaf
        elif kind < 4:
            yield "counts", leaf
        else:
            category = CATEGORIES[turn % len(CATEGORIES)]
            yield "redis_hll_counters", category, f"i_{category}_user_{leaf}_monthly"


def leaves(dice: Dice, number: int, people: int) -> dict[str, Any]:
    """That many leaves in their blocks: more than half are 0, one in fifty is the -1 of a count that failed."""
    blocks: dict[str, Any] = {}
    for path in paths(number):
        chance = dice.unit()
        node = blocks
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node[path[-1]] = -1 if chance < 0.02 else 0 if chance < 0.6 else int((chance - 0.6) / 0.4 * (people + 1))
    return blocks
