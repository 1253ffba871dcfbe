"""What a ping reports: the 28-day counts of users that an installation made itself (contract, section 2.1, *Reported basis*).

Source: GitLab's Service Ping, `usage_activity_by_stage_monthly` and the metrics of the stage map.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Final, NamedTuple

from schemas.ping import Ping, count, decode_members, decode_value, is_text
from schemas.stage_map import STAGE_MAP, KeyPath

BLOCK: Final = "usage_activity_by_stage_monthly"
"""The top-level key with which a ping reports, and under which features stand as `<stage>.<feature>`."""

_ELSEWHERE: Final = {
    root: {path[1] for paths in (STAGE_MAP.mau, *STAGE_MAP.smau.values()) for path in paths if path[0] == root}
    for root in STAGE_MAP.roots - {BLOCK}
}
"""What the map looks for in other top-level keys: the rest of their thousands of values is not decoded."""


class Reported(NamedTuple):
    """The reported figures of one ping.

    Attributes:
        figures: (stage, feature, users) of each known figure, 0 too: ('', '') is MAU, (stage, '') is SMAU. MAU first, then SMAU
            in the order of the stage map, then features in the order of the ping. No pair stands twice.
        unknown: values that stand where a figure was looked for and are none: negative, beyond 63 bits or of an unexpected
            type. Each is counted once. What is absent or null is not among them, nor a list or an object where a feature
            could stand: deeper values are no features.
    """

    figures: list[tuple[str, str, int]]
    unknown: int


def read_reported(ping: Ping) -> Reported | None:
    """The reported figures of a ping by the stage map in force; None when it reports nothing.

    A ping reports when `usage_activity_by_stage_monthly` is an object, an empty one too.
    """
    if not len(ping.usage_activity_by_stage_monthly):
        return None
    block = decode_value(ping.usage_activity_by_stage_monthly)
    if not isinstance(block, dict):
        return None
    roots = {BLOCK: block} | {root: decode_members(getattr(ping, root), names) for root, names in _ELSEWHERE.items()}
    figures: list[tuple[str, str, int]] = []
    unknown: set[KeyPath] = set()
    for stage, paths in (("", STAGE_MAP.mau), *STAGE_MAP.smau.items()):
        _search(roots, stage, paths, figures, unknown)
    _read_features(block, figures, unknown)
    return Reported(figures, len(unknown))


def _search(
    roots: dict[str, Any],
    stage: str,
    paths: tuple[KeyPath, ...],
    figures: list[tuple[str, str, int]],
    unknown: set[KeyPath],
) -> None:
    """The first path that is decided decides: absent and null leave it to the next one."""
    for path in paths:
        value: Any = roots
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            users = count(value)
            if users is None:
                unknown.add(path)
            else:
                figures.append((stage, "", users))
            return


def _read_features(block: dict[str, Any], figures: list[tuple[str, str, int]], unknown: set[KeyPath]) -> None:
    for stage, features in block.items():
        if not isinstance(features, dict) or not is_text(stage):
            continue
        known = [
            (stage, feature, value)
            for feature, value in features.items()
            if count(value) is not None and is_text(feature)
        ]
        figures += known
        if len(known) < len(features):
            unknown.update(
                (BLOCK, stage, feature)
                for feature, value in features.items()
                if count(value) is None and not isinstance(value, (dict, list, NoneType)) and is_text(feature)
            )
