"""What Grafana makes of a query before it asks."""

from __future__ import annotations

import pytest

from tests.grafana.expansion import Moment, expression, sql, words

MOMENT = Moment(1_700_000_000, 1_700_086_400, step=15, rate=60, values={"geo": ["AMER", "it's"], "instance": [".+"]})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("at >= $__fromTime AND at < $__toTime", "at >= toDateTime(1700000000) AND at < toDateTime(1700086400)"),
        ("geo IN (${geo:singlequote})", "geo IN ('AMER','it\\'s')"),
        ("SELECT '100 %'", "SELECT '100 %'"),
    ],
)
def test_sql(text: str, wanted: str) -> None:
    assert sql(text, MOMENT) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rate(x[$__rate_interval])", "rate(x[60s])"),
        ("x unless x offset $__interval", "x unless x offset 15s"),
        ('x{instance=~"$instance"}', 'x{instance=~".+"}'),
    ],
)
def test_expression(text: str, wanted: str) -> None:
    assert expression(text, MOMENT) == wanted


def test_several_workers_are_one_pattern() -> None:
    chosen = Moment(0, 1, values={"instance": ["a:1", "b:2"]})
    assert expression('x{instance=~"$instance"}', chosen) == 'x{instance=~"(a:1|b:2)"}'


@pytest.mark.parametrize(
    "text", ["$__timeFilter(at)", "${geo}", "$geo", "${other:singlequote}", "x[$__range]", "${geo:csv}"]
)
def test_what_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        sql(text, MOMENT)
    with pytest.raises(ValueError):
        expression(text, MOMENT)


def test_titles() -> None:
    assert words("Seats by $geo", MOMENT.values) == "Seats by AMER + it's"
