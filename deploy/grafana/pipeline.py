"""*Pipeline*: for the person on call. Prometheus alone, the metrics of the workers."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import LAST_HOURS, Section, build, deployments, workers
from deploy.grafana.panels import (
    BYTES,
    COUNT,
    MONEY,
    RATE,
    SECONDS,
    SHARE,
    Steps,
    grid,
    stat,
    timeline,
    trend,
)
from deploy.grafana.sources import metric, metric_now

_WAITS: Final[Steps] = (("green", None), ("yellow", 60), ("red", 300))
_BEHIND: Final[Steps] = (("green", None), ("yellow", 600), ("red", 3600))
_DEAD: Final[Steps] = (("green", None), ("yellow", 0.001), ("red", 0.01))
_ANY_IS_BAD: Final[Steps] = (("green", None), ("red", 1))
_NONE_IS_BAD: Final[Steps] = (("red", None), ("green", 1))

_OF_WORKER: Final = '{instance=~"$instance"}'


def pipeline() -> Dashboard:
    """Is everything read, is it written, and how soon."""
    return build(
        "Pipeline",
        "For the person on call: is everything that was sent read, judged and written, and how soon?",
        [_NOW, _MESSAGES, _LAG, _KEPT, _SINK, _WORKERS, _FIGURES],
        variables=[workers()],
        annotations=[deployments()],
        period=LAST_HOURS,
        refresh="30s",
    )


_NOW = Section(
    "Is it working, and are figures fresh?",
    [
        stat(
            "Workers ready",
            "Workers that have their partitions and the state of them. More workers than partitions stand by and are not ready.",
            metric("sum(pingstream_ready)"),
            COUNT,
            colours=_NONE_IS_BAD,
        ),
        stat(
            "Behind",
            "Age of the received time up to which messages are applied, of the worker that is furthest behind; 0 without lag. "
            "An alert fires at an hour.",
            metric("max(pingstream_consumer_lag_seconds)"),
            SECONDS,
            colours=_BEHIND,
        ),
        stat(
            "Messages waiting",
            "Messages in all partitions that are not applied yet.",
            metric("sum(pingstream_consumer_lag_records)"),
            COUNT,
        ),
        stat(
            "Oldest unwritten",
            "How long the oldest message that was fetched has waited for its rows to be accepted. An alert fires at 5 minutes: "
            "ClickHouse, Kafka or the dead letters' topic does not take what came of it.",
            metric("max(pingstream_oldest_unflushed_seconds)"),
            SECONDS,
            colours=_WAITS,
        ),
        stat(
            "Newest message, ago",
            "How long ago the newest applied message was received. It also grows when nobody sends anything; an alert fires when no "
            "ping of 26 hours is applied.",
            metric("time() - max(pingstream_newest_applied_timestamp_seconds)"),
            SECONDS,
        ),
        stat(
            "Dead letters, last hour",
            "Dead letters of the last hour for each message that was read in it. An alert fires at 1 %.",
            metric(
                "sum(increase(pingstream_dead_letters_total[1h]))"
                " / clamp_min(sum(increase(pingstream_events_total[1h])), 1)"
            ),
            SHARE,
            decimals=2,
            colours=_DEAD,
        ),
    ],
)

_MESSAGES = Section(
    "Messages",
    [
        trend(
            "Messages read",
            "Messages a second by topic and by what became of them: each has one outcome.",
            metric(
                "sum by (topic, outcome) (rate(pingstream_events_total[$__rate_interval]))", "{{topic}}: {{outcome}}"
            ),
            RATE,
            stacked=True,
        ),
        trend(
            "Dead letters",
            "Dead letters a second by reason. `pingstream dlq list` tells what is in them.",
            metric(
                "sum by (topic, reason) (rate(pingstream_dead_letters_total[$__rate_interval]))",
                "{{topic}}: {{reason}}",
            ),
            RATE,
            stacked=True,
        ),
        trend(
            "Activity",
            "Users in activity entries that were folded, a second: the work that pings bring.",
            metric("sum(rate(pingstream_activities_total[$__rate_interval]))", "users in entries"),
            RATE,
        ),
        trend(
            "What came of messages",
            "Share of the messages of a topic that were duplicates or dead.",
            metric(
                'sum by (topic, outcome) (rate(pingstream_events_total{outcome!="applied"}[$__rate_interval]))'
                " / on (topic) group_left () clamp_min(sum by (topic)"
                " (rate(pingstream_events_total[$__rate_interval])), 0.000001)",
                "{{topic}}: {{outcome}}",
            ),
            SHARE,
        ),
    ],
)

_LAG = Section(
    "Lag",
    [
        trend(
            "Messages waiting by partition",
            "Messages that are not applied yet. One partition above the others: one worker is slow, or one key is large.",
            metric("sum by (topic, partition) (pingstream_consumer_lag_records)", "{{topic}} {{partition}}"),
            COUNT,
        ),
        trend(
            "Behind, by worker",
            "Age of the received time up to which messages are applied, 0 without lag.",
            metric(f"pingstream_consumer_lag_seconds{_OF_WORKER}", "{{instance}}"),
            SECONDS,
            alarm=3600,
        ),
        trend(
            "Newest message, ago, by worker",
            "How long ago the newest applied message was received, of each worker's partition that is furthest behind.",
            metric(f"time() - pingstream_watermark_timestamp_seconds{_OF_WORKER}", "{{instance}}"),
            SECONDS,
        ),
        trend(
            "Oldest unwritten, by worker",
            "How long the oldest fetched message has waited for its rows to be accepted.",
            metric(f"pingstream_oldest_unflushed_seconds{_OF_WORKER}", "{{instance}}"),
            SECONDS,
            alarm=300,
        ),
    ],
)

_KEPT = Section(
    "Is everything kept?",
    [
        trend(
            "Without an outcome",
            "Messages read less those that were applied, duplicate, dead or sent on to their home, drawn after each flush: 0, or the "
            "program has lost or counted some twice. An alert fires at anything else.",
            metric(f"pingstream_balance_messages{_OF_WORKER}", "{{instance}}: {{topic}}"),
            COUNT,
        ),
        trend(
            "Read and not committed",
            "Messages that come again after a crash.",
            metric(f"pingstream_uncommitted_records{_OF_WORKER}", "{{instance}}: {{topic}}"),
            COUNT,
        ),
        trend(
            "No commit for",
            "How long no commit has moved a partition of which messages are read; 0 when all of them are committed. An alert fires at "
            "10 minutes.",
            metric(f"pingstream_uncommitted_seconds{_OF_WORKER}", "{{instance}}: {{topic}}"),
            SECONDS,
            alarm=600,
        ),
        trend(
            "State still to be recovered",
            "Records of the changelogs that a worker has to read back before it works on its partitions. An alert fires when that would "
            "take another 20 minutes.",
            metric(f"pingstream_recovery_remaining_records{_OF_WORKER}", "{{instance}}: {{topic}}"),
            COUNT,
        ),
    ],
)

_SINK = Section(
    "Writing",
    [
        trend(
            "Time of a flush",
            "How long a batch takes to be written (dead letters, state, rows): half, 95 and 99 of 100 are faster.",
            [
                metric(
                    f"histogram_quantile({quantile}, sum by (le) (rate(pingstream_sink_flush_seconds_bucket[$__rate_interval])))",
                    legend,
                    ref,
                )
                for quantile, legend, ref in ((0.5, "half", "A"), (0.95, "95 %", "B"), (0.99, "99 %", "C"))
            ],
            SECONDS,
        ),
        trend(
            "Share of time in flushes",
            "Share of its time that a worker spends with writing. Usage and billing are written side by side, so near 200 % it cannot "
            "take more.",
            metric(f"rate(pingstream_sink_flush_seconds_sum{_OF_WORKER}[$__rate_interval])", "{{instance}}"),
            SHARE,
        ),
        trend(
            "Rows accepted",
            "Rows a second that ClickHouse has accepted, by table.",
            metric("sum by (table) (rate(pingstream_sink_rows_total[$__rate_interval]))", "{{table}}"),
            RATE,
            stacked=True,
        ),
        trend(
            "Refused",
            "Inserts and dead letters a second that were refused or not answered; they are tried again and nothing is lost. "
            "An alert fires after 5 minutes.",
            metric(
                "sum by (table) (rate(pingstream_sink_errors_total[$__rate_interval]))"
                ' or on () label_replace(vector(0), "table", "none", "", "")',
                "{{table}}",
            ),
            RATE,
        ),
    ],
)

_WORKERS = Section(
    "Workers",
    [
        timeline(
            "Ready",
            "Whether a worker has its partitions and the state of them; it recovers, or stands by, while it is not.",
            metric(f"pingstream_ready{_OF_WORKER}", "{{instance}}"),
            {1: ("ready", "green"), 0: ("not ready", "orange")},
        ),
        grid(
            "Versions",
            "Which version runs where.",
            metric_now(f"count by (instance, version) (pingstream_build_info{_OF_WORKER})"),
            {},
            width=12,
        ),
        trend(
            "State",
            "Bytes of the durable state of each worker: it grows with active users, not with time.",
            metric(f"pingstream_state_bytes{_OF_WORKER}", "{{instance}}"),
            BYTES,
        ),
        trend(
            "Installations and groups",
            "Scopes that each worker owns. Far from each other: keys are unevenly spread, or a worker has more partitions.",
            metric(f"pingstream_state_scopes{_OF_WORKER}", "{{instance}}"),
            COUNT,
        ),
    ],
)

_FIGURES = Section(
    "Live figures, summed over workers",
    [
        trend(
            "MAU",
            "Monthly active users now, by population and basis; populations are never added together.",
            metric("sum by (population, basis) (pingstream_mau)", "{{population}}, {{basis}}"),
            COUNT,
        ),
        trend(
            "SMAU of installations",
            "Monthly active users of each stage now, counted from users.",
            metric('sum by (stage) (pingstream_smau{population="self_managed", basis="exact"})', "{{stage}}"),
            COUNT,
        ),
        trend(
            "Features most used",
            "Monthly active users now of the ten features with most of them, in installations, counted from users.",
            metric(
                'topk(10, sum by (stage, feature) (pingstream_feature_mau{population="self_managed", basis="exact"}))',
                "{{stage}}: {{feature}}",
            ),
            COUNT,
        ),
        trend(
            "Scopes by stages used",
            "Installations and groups by how many stages they use.",
            metric(
                "sum by (population, stages) (pingstream_scopes_by_stages_used)", "{{population}}: {{stages}} stages"
            ),
            COUNT,
        ),
        trend(
            "Seats",
            "Seats held now, by plan.",
            metric("sum by (plan) (pingstream_seats)", "{{plan}}"),
            COUNT,
            stacked=True,
        ),
        trend(
            "Seats added in 28 days",
            "Seats added outside of renewals, by plan.",
            metric("sum by (plan) (pingstream_seats_added_28d)", "{{plan}}"),
            COUNT,
            stacked=True,
        ),
        trend(
            "MRR",
            "Monthly recurring revenue now, in the reporting currency.",
            metric("sum by (currency) (pingstream_mrr)", "{{currency}}"),
            MONEY,
        ),
        trend(
            "Net retention",
            "Today's MRR of the accounts that had some 12 months ago, for each unit of what they had then.",
            metric("sum(pingstream_mrr_retained) / sum(pingstream_mrr_12m_ago)", "accounts"),
            SHARE,
        ),
    ],
)
