"""*Usage*: who uses what. One population and one basis at a time: neither adds up over them."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.account import TO_ACCOUNT
from deploy.grafana.days import IN_RANGE, TIME, chosen, is_chosen, known, newest
from deploy.grafana.frame import Section, any_of, build, deployments, gaps, one_of
from deploy.grafana.panels import COUNT, SECONDS, SHARE, Column, Steps, bars, grid, stat, trend
from deploy.grafana.sources import rows, series

_STALE: Final[Steps] = (("green", None), ("yellow", 36 * 3600), ("red", 72 * 3600))
_OLD: Final[Steps] = (("green", None), ("yellow", 3), ("red", 5))
_ANY_IS_BAD: Final[Steps] = (("green", None), ("red", 1))
_FAILED: Final[Steps] = (("green", None), ("yellow", 0.05), ("red", 0.2))

_POPULATION: Final = is_chosen("population")
_THESE: Final = f"{_POPULATION} AND {is_chosen('basis')}"
_STAGES: Final = chosen("stage")
_NEWEST: Final = newest("kpi_mau", _THESE)
_FRESHNESS: Final = f"FROM kpi_freshness WHERE {_POPULATION}"

# A day's activity is told by the pings of the next day: until then dau is 0, which is nobody's stickiness.
_TOLD: Final = "(basis = 'reported' OR dau > 0)"


def usage() -> Dashboard:
    """How many use it, how much of it, and who they are."""
    return build(
        "Usage",
        "Who uses which stages and features, of one population at a time: populations and bases are never added together.",
        [_NOW, _FRESH, _TRENDS, _ADOPTION, _BREAKDOWN, _PEOPLE, _TABLES],
        variables=[
            one_of(
                "population", "Population", ("self_managed", "gitlab_com", "group"),
                "Installations, GitLab.com as a whole, or its groups.",
            ),
            one_of(
                "basis", "Basis", ("exact", "reported"),
                "Counted from users, or as the installations count themselves.",
            ),
            any_of(
                "stage", "Stage", "SELECT DISTINCT stage FROM kpi_smau WHERE as_of >= today() - 400 ORDER BY stage",
                "Stages in panels by stage and feature.",
            ),
        ],
        annotations=[deployments(), gaps()],
    )  # fmt: skip


_NOW = Section(
    "How many use it?",
    [
        stat(
            "MAU",
            "Monthly active users: users active in the 28 days up to and with a day, summed over the population's scopes.",
            series(f"SELECT {TIME}, mau FROM kpi_mau WHERE {IN_RANGE} AND {_THESE} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Stickiness",
            "Users of a day for each monthly active user (dau / mau), on the newest day of which pings have told. "
            "Nobody reports it.",
            series(f"SELECT {TIME}, stickiness FROM kpi_mau WHERE {IN_RANGE} AND {_THESE} AND {_TOLD} ORDER BY time"),
            SHARE,
            none="not reported",
        ),
        stat(
            "Stages a user uses",
            "SMAU factor: the sum of SMAU / MAU.",
            series(f"SELECT {TIME}, smau_factor FROM kpi_smau_factor WHERE {IN_RANGE} AND {_THESE} ORDER BY time"),
            COUNT,
            decimals=2,
        ),
        stat(
            "Active scopes",
            "Installations or groups with a monthly active user.",
            series(
                f"SELECT {TIME}, total FROM kpi_stage_adoption WHERE {IN_RANGE} AND {_THESE} AND more_than = 0 ORDER BY time"
            ),
            COUNT,
            none="one",
        ),
        stat(
            "Registered users",
            "Registered users by the newest ping of each scope in 28 days. They are not active users.",
            series(
                f"SELECT {TIME}, users FROM kpi_user_count WHERE {IN_RANGE} AND {_POPULATION} AND plan = '' ORDER BY time"
            ),
            COUNT,
        ),
        stat(
            "Pings in 28 days",
            "Usage pings that were recorded in the 28 days up to and with a day.",
            series(f"SELECT {TIME}, pings_28d FROM kpi_usage_pings WHERE {IN_RANGE} AND {_POPULATION} ORDER BY time"),
            COUNT,
        ),
    ],
)

_FRESH = Section(
    "Are these figures fresh and whole?",
    [
        stat(
            "Newest day, days ago",
            "Days since the newest day of which pings have told users. Pings tell of the days before them: 1 or 2 is normal.",
            rows(f"SELECT dateDiff('day', newest_day, toDate(now(), 'UTC')) AS days {_FRESHNESS}"),
            COUNT,
            colours=_OLD,
            spark=False,
        ),
        stat(
            "Applied up to, ago",
            "Age of the received time up to which every partition is applied.",
            rows(f"SELECT dateDiff('second', watermark, now64(3)) AS age {_FRESHNESS}"),
            SECONDS,
            colours=_STALE,
            spark=False,
        ),
        stat(
            "Silent scopes",
            "Installations or groups that have sent pings, but none in the last 28 days.",
            rows(f"SELECT scopes_silent_28d {_FRESHNESS}"),
            COUNT,
            spark=False,
        ),
        stat(
            "Gaps",
            "Ranges of messages that Kafka had deleted before they could be read: figures lack them. See the table below.",
            rows(f"SELECT gaps {_FRESHNESS}"),
            COUNT,
            colours=_ANY_IS_BAD,
            spark=False,
        ),
        stat(
            "Counters that failed",
            "Share of the counters in a day's pings that the installation could not count (negative numbers).",
            series(
                f"""
                SELECT {TIME}, failed_counters / nullIf(counters + failed_counters, 0) AS share
                FROM kpi_usage_pings
                WHERE {IN_RANGE} AND {_POPULATION}
                ORDER BY time
                """
            ),
            SHARE,
            decimals=1,
            colours=_FAILED,
        ),
        stat(
            "Dead letters",
            "Pings received in the time range that could not be used, or not as a whole. See the table below.",
            rows(
                "SELECT count() AS letters FROM dead_letter"
                " WHERE topic = 'usage-pings' AND received_at BETWEEN $__fromTime AND $__toTime"
            ),
            COUNT,
            spark=False,
        ),
    ],
)

_TRENDS = Section(
    "Trends",
    [
        trend(
            "Active users",
            "Users active on a day, in the 7 and in the 28 days up to and with it. Each is counted once in a scope.",
            series(
                f"""
                SELECT {TIME}, mau AS monthly, wau AS weekly, dau AS daily
                FROM kpi_mau
                WHERE {IN_RANGE} AND {_THESE} AND {_TOLD}
                ORDER BY time
                """
            ),
            COUNT,
        ),
        trend(
            "SMAU",
            "Stage monthly active users: users active in any feature of the stage in 28 days. A user of two stages is in both, "
            "so stages do not add up.",
            series(
                f"SELECT {TIME}, stage, smau FROM kpi_smau WHERE {IN_RANGE} AND {_THESE} AND {_STAGES} ORDER BY time, stage"
            ),
            COUNT,
            by="stage",
        ),
        trend(
            "Stickiness",
            "Users of a day for each monthly active user (dau / mau). Weekends are low.",
            series(f"SELECT {TIME}, stickiness FROM kpi_mau WHERE {IN_RANGE} AND {_THESE} AND {_TOLD} ORDER BY time"),
            SHARE,
        ),
        trend(
            "Stages a user uses (SMAU factor)",
            "Sum of SMAU / MAU: in how many stages a monthly active user is active, on average.",
            series(
                f"SELECT {TIME}, smau_factor AS stages FROM kpi_smau_factor WHERE {IN_RANGE} AND {_THESE} ORDER BY time"
            ),
            COUNT,
            decimals=2,
            from_zero=False,
        ),
        trend(
            "Features a stage's user uses (feature MAU factor)",
            "Sum of a stage's feature MAU / its SMAU: in how many of its features a user of the stage is active.",
            series(
                f"""
                SELECT {TIME}, stage, feature_mau_factor
                FROM kpi_feature_mau_factor
                WHERE {IN_RANGE} AND {_THESE} AND {_STAGES}
                ORDER BY time, stage
                """
            ),
            COUNT,
            by="stage",
            decimals=2,
        ),
        trend(
            "Sessions per user",
            "Sessions of a day / users active on it, where sessions are known.",
            series(
                f"""
                SELECT {TIME}, sessions_per_user AS sessions
                FROM kpi_sessions
                WHERE {IN_RANGE} AND {_POPULATION} AND stage = '' AND feature = ''
                ORDER BY time
                """
            ),
            COUNT,
            decimals=2,
        ),
    ],
)


def _adoption(population: str) -> str:
    return f"population = '{population}' AND {is_chosen('basis')} AND more_than > 0"


def _adoption_days(population: str) -> str:
    return (
        f"SELECT {TIME}, concat('more than ', toString(more_than)) AS stages, share FROM kpi_stage_adoption"
        f" WHERE {IN_RANGE} AND {_adoption(population)} ORDER BY time, more_than"
    )


def _adoption_newest(population: str) -> str:
    day = newest("kpi_stage_adoption", f"population = '{population}'", is_chosen("basis"))
    return (
        "SELECT concat('more than ', toString(more_than)) AS stages, share FROM kpi_stage_adoption"
        f" WHERE {day} AND {_adoption(population)} ORDER BY more_than"
    )


_ADOPTION = Section(
    "Stage adoption: scopes that use more than x stages",
    [
        trend(
            "Installations",
            "Share of the active installations that use more than x stages.",
            series(_adoption_days("self_managed")),
            SHARE,
            by="stages",
            width=8,
        ),
        bars(
            "Installations, newest day",
            "Share of the active installations that use more than x stages.",
            rows(_adoption_newest("self_managed")),
            SHARE,
            decimals=0,
            width=4,
        ),
        trend(
            "Groups of GitLab.com",
            "Share of the active groups that use more than x stages.",
            series(_adoption_days("group")),
            SHARE,
            by="stages",
            width=8,
        ),
        bars(
            "Groups, newest day",
            "Share of the active groups that use more than x stages.",
            rows(_adoption_newest("group")),
            SHARE,
            decimals=0,
            width=4,
        ),
    ],
)

_BREAKDOWN = Section(
    "What is used, newest day",
    [
        bars(
            "Stages",
            "SMAU of the newest day of the time range.",
            rows(
                f"SELECT stage, smau FROM kpi_smau WHERE {_NEWEST} AND {_THESE} AND {_STAGES} ORDER BY smau DESC, stage"
            ),
            COUNT,
        ),
        bars(
            "Features, the first 15",
            "Feature MAU of the newest day of the time range.",
            rows(
                f"""
                SELECT concat(stage, ': ', feature) AS name, feature_mau
                FROM kpi_feature_mau
                WHERE {_NEWEST} AND {_THESE} AND {_STAGES}
                ORDER BY feature_mau DESC, name
                LIMIT 15
                """
            ),
            COUNT,
        ),
        bars(
            "Users of a stage who use the feature, the first 15",
            "Feature MAU / SMAU of its stage, on the newest day of the time range.",
            rows(
                f"""
                SELECT concat(stage, ': ', feature) AS name, feature_mau / nullIf(smau, 0) AS share
                FROM (SELECT stage, feature, feature_mau FROM kpi_feature_mau WHERE {_NEWEST} AND {_THESE}) AS features
                INNER JOIN (SELECT stage, smau FROM kpi_smau WHERE {_NEWEST} AND {_THESE} AND {_STAGES}) AS stages
                    USING (stage)
                ORDER BY share DESC, name
                LIMIT 15
                """
            ),
            SHARE,
            decimals=0,
        ),
    ],
)


def _users_by(dimension: str) -> str:
    told = f"{_POPULATION} AND dimension = '{dimension}'"
    return (
        f"SELECT {known('value')} AS name, users FROM kpi_users_by"
        f" WHERE {newest('kpi_users_by', told)} AND {told} ORDER BY users DESC, name"
    )


_PEOPLE = Section(
    "Who they are, and what sends",
    [
        trend(
            "Registered users by plan",
            "Registered users by the newest ping of each scope in 28 days, by the plan of that ping.",
            series(
                f"""
                SELECT {TIME}, plan, users
                FROM kpi_user_count
                WHERE {IN_RANGE} AND {_POPULATION} AND plan != ''
                ORDER BY time, plan
                """
            ),
            COUNT,
            by="plan",
            stacked=True,
        ),
        bars(
            "By persona",
            "Registered users by persona, of the scopes that tell it.",
            rows(_users_by("persona")),
            COUNT,
            width=6,
        ),
        bars(
            "By acquisition channel",
            "Registered users by the channel through which they came, of the scopes that tell it.",
            rows(_users_by("acquisition_channel")),
            COUNT,
            width=6,
        ),
        trend(
            "Usage pings",
            "Pings by the day they were recorded on. A group's ping counts in group and in gitlab_com.",
            series(f"SELECT {TIME}, population, pings FROM kpi_usage_pings WHERE {IN_RANGE} ORDER BY time, population"),
            COUNT,
            by="population",
        ),
        grid(
            "Versions",
            "Versions and editions by the newest ping of each scope in 28 days, and the registered users that they tell.",
            rows(
                f"""
                SELECT version, edition, scopes, users
                FROM kpi_versions
                WHERE {newest("kpi_versions", _POPULATION)} AND {_POPULATION}
                ORDER BY scopes DESC, version DESC, edition
                """
            ),
            {"scopes": Column(COUNT), "users": Column(COUNT)},
            width=12,
        ),
    ],
)

_TABLES = Section(
    "In full",
    [
        grid(
            "Accounts with most use",
            "Accounts by their active users on the newest day of the time range; a click leads to the account. "
            "All populations: usage that no account is known for is left out.",
            rows(
                f"""
                SELECT account_id, mau, basis, stages_used, features_used, pings_28d, last_ping_at
                FROM kpi_account_usage
                WHERE {newest("kpi_account_usage")} AND account_id != ''
                ORDER BY mau DESC, account_id
                LIMIT 100
                """
            ),
            {
                "account_id": TO_ACCOUNT,
                "mau": Column(COUNT),
                "stages_used": Column(COUNT),
                "features_used": Column(COUNT),
                "pings_28d": Column(COUNT),
            },
            width=14,
        ),
        grid(
            "Dead letters",
            "Messages received in the time range that could not be used, or not as a whole, by reason.",
            rows(
                """
                SELECT topic, reason, count() AS letters, max(received_at) AS newest
                FROM dead_letter
                WHERE received_at BETWEEN $__fromTime AND $__toTime
                GROUP BY topic, reason
                ORDER BY letters DESC, topic, reason
                """
            ),
            {"letters": Column(COUNT)},
            width=10,
        ),
        grid(
            "Gaps",
            "Messages that Kafka had deleted before they were read (a retention shorter than an outage): figures lack them.",
            rows(
                """
                SELECT topic, partition, first_offset, last_offset, last_offset - first_offset + 1 AS messages
                FROM gap FINAL
                ORDER BY topic, partition, first_offset
                """
            ),
            {"messages": Column(COUNT)},
            height=5,
        ),
    ],
)
