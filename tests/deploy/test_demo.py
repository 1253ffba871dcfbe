"""`pingstream demo`: one command from nothing to figures, and nothing left running behind it, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.cli.errors import WrongUse
from deploy.demo.folder import MARKER, fresh_folder

pytestmark = [pytest.mark.broker, pytest.mark.timeout(150)]

RUN_SECONDS = 60.0
VIEWS = (
    "kpi_mau", "kpi_user_count", "kpi_smau", "kpi_smau_factor", "kpi_feature_mau", "kpi_feature_mau_factor", "kpi_stage_adoption",
    "kpi_usage_pings", "kpi_net_retention", "kpi_mrr", "kpi_mrr_movement", "kpi_seats", "kpi_seats_added", "kpi_tier_movement",
    "kpi_addons", "kpi_self_service_total", "kpi_seat_utilization", "kpi_account_usage",
)  # fmt: skip


def environment(**settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PINGSTREAM_")}
    return clean | {f"PINGSTREAM_{name.upper()}": value for name, value in settings.items()}


class Demo:
    """`pingstream demo` in a folder of its own, as a process of its own session."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self._folder = folder
        self._log = folder / f"{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", "demo", *arguments],
                cwd=folder,
                env=environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_until_said(self, words: str, seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def end(self, seconds: float) -> tuple[int, str]:
        """Exit code and standard output; nothing that ran in the folder may run any more."""
        out, _ = self.process.communicate(timeout=seconds)
        assert "Traceback" not in self.said
        assert running_in(self._folder) == []
        return self.process.returncode, out.decode()

    def child(self, word: str) -> psutil.Process:
        """The process that does the work behind a leash, by a word of its command."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        (found,) = [child for child in children if word in child.cmdline() and "leash" not in " ".join(child.cmdline())]
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def running_in(folder: Path) -> list[str]:
    """Commands of the processes whose working directory lies in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline())[:200])
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts small demos in `tmp_path` and ends what is left of them."""
    started: list[Demo] = []

    def start(*arguments: str, **settings: str) -> Demo:
        size = ("--installations", "6", "--groups", "3", "--days", "35", "--as-of", "2024-11-20", "--web-port", "0")
        started.append(Demo(tmp_path, *size, *arguments, **settings))
        return started[-1]

    yield start
    for one in started:
        one.close()


def ask(folder: Path, query: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "sql", query, "--format", "json", "--data-dir", "pingstream-data/demo"],
        cwd=folder, env=environment(), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def test_a_run_prints_the_kpis_ends_clean_and_can_be_repeated(demo: Callable[..., Demo], tmp_path: Path) -> None:
    # Settings of the user's own broker and ClickHouse are none of the demo's business.
    run = demo(kafka="127.0.0.1:1", clickhouse="http://127.0.0.1:1", replication="3", retention="1000")
    code, printed = run.end(RUN_SECONDS)
    assert code == 0, run.said
    for view in VIEWS:
        assert re.search(rf"\b{view}\b", printed), f"{view} is not shown"
    assert "KPIs of Tuesday, 2024-11-19" in printed
    assert "Apache Kafka" in run.said and "the worker runs" in run.said, "no progress"
    assert "kpi --data-dir pingstream-data/demo" in run.said, "it does not say where to look"

    # What is printed is what is there: of the newest day that is over, of all installations, of all messages.
    (row,) = ask(
        tmp_path,
        "SELECT dau, wau, mau FROM kpi_mau WHERE as_of = '2024-11-19' AND population = 'self_managed' AND basis = 'exact'",
    )
    shown = re.search(r"2024-11-19 +([\d,]+) +([\d,]+) +([\d,]+) +\d\.\d{3}\b", printed)
    assert shown is not None, printed
    assert [int(number.replace(",", "")) for number in shown.groups()] == [row["dau"], row["wau"], row["mau"]]
    assert int(shown[3].replace(",", "")) > 0
    messages = re.search(r"([\d,]+) messages of 6 installations and 3 groups", run.said)
    assert messages is not None
    outcomes = re.findall(r"\b(?:applied|duplicate|dead) +([\d,]+)\b", printed)
    assert sum(int(number.replace(",", "")) for number in outcomes) == int(messages[1].replace(",", ""))
    (newest,) = ask(tmp_path, "SELECT max(as_of) AS day, uniqExact(scope_id) AS scopes FROM usage_kpi")
    assert newest == {"day": "2024-11-20", "scopes": 6 + 3 + 1}  # installations, groups, GitLab.com

    (tmp_path / "pingstream-data" / "demo" / "stray").write_text("of the first run")
    again = demo("--keep")
    again.wait_until_said("Still running", RUN_SECONDS)
    assert not (tmp_path / "pingstream-data" / "demo" / "stray").exists()

    # It stays until Ctrl-C, and more pings come in all the time.
    pings = "SELECT count() AS n FROM usage_ping"
    (before,) = ask(tmp_path, pings)
    time.sleep(1.5)
    (after,) = ask(tmp_path, pings)
    assert int(str(after["n"])) > int(str(before["n"]))
    again.process.send_signal(signal.SIGINT)
    code, printed_again = again.end(15.0)
    assert code == 0, again.said
    assert printed_again == printed, "the same fleet, other figures"


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting Apache Kafka"),
        (signal.SIGINT, "starting a worker"),
        (signal.SIGTERM, "the worker runs"),
    ],
)
def test_a_signal_at_any_moment_ends_everything(demo: Callable[..., Demo], number: signal.Signals, moment: str) -> None:
    run = demo("--days", "60", "--installations", "40")
    run.wait_until_said(moment)
    time.sleep(0.4)
    run.process.send_signal(number)
    code, printed = run.end(6.0)
    assert code == 130
    assert printed == ""
    assert run.said.endswith("pingstream: stopped\n")


@pytest.mark.parametrize(
    ("word", "sentence"), [("worker", "the worker ended by itself"), ("kafka.Kafka", "Kafka ended by itself")]
)
def test_a_part_that_dies_ends_the_demo_with_a_sentence(demo: Callable[..., Demo], word: str, sentence: str) -> None:
    run = demo("--days", "60", "--installations", "40")
    run.wait_until_said("starting a worker")
    time.sleep(0.3)
    run.child(word).kill()
    code, _ = run.end(15.0)
    assert code == 1
    assert f"pingstream: {sentence}" in run.said
    assert "its log" in run.said


def test_a_killed_demo_takes_its_parts_along(demo: Callable[..., Demo], tmp_path: Path) -> None:
    run = demo("--days", "60", "--installations", "40")
    run.wait_until_said("starting a worker")
    time.sleep(0.3)
    assert len(running_in(tmp_path)) == 5, "the demo, two leashes, Kafka and the worker"
    run.process.kill()
    run.process.wait()
    deadline = time.monotonic() + 5
    while running_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running_in(tmp_path) == []


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_that_no_demo_has_made_is_left_alone(demo: Callable[..., Demo], tmp_path: Path) -> None:
    file = tmp_path / "pingstream-data" / "demo" / "thesis.txt"
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    run = demo()
    code, _ = run.end(20.0)
    assert code == 2
    assert "is not the demo's own" in run.said
    assert file.read_text() == "years of work"


def test_two_demos_share_no_folder(tmp_path: Path) -> None:
    with (
        fresh_folder(tmp_path / "demo") as folder,
        pytest.raises(WrongUse, match=rf"another demo \(process {os.getpid()}\)"),
        fresh_folder(folder),
    ):
        pass
    with fresh_folder(tmp_path / "demo"), fresh_folder(tmp_path / "other"):
        assert (tmp_path / "demo" / MARKER).exists()


def test_a_link_in_the_folder_is_removed_and_its_target_is_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kept").touch()
    with fresh_folder(tmp_path / "demo") as folder:
        (folder / "link").symlink_to(tmp_path / "data")
    with fresh_folder(tmp_path / "demo") as folder:
        assert [path.name for path in folder.iterdir()] == [MARKER]
    assert (tmp_path / "data" / "kept").exists()


def test_a_broker_on_the_last_demos_data_is_not_robbed_of_them(tmp_path: Path) -> None:
    from deploy.kafka.broker import LocalBroker

    with fresh_folder(tmp_path / "demo") as folder:
        broker = LocalBroker(folder / "kafka", port=0, heap_mb=256)
    with (
        broker,
        pytest.raises(WrongUse, match=r"a Kafka broker \(process \d+\) runs on the last demo's data"),
        fresh_folder(folder),
    ):
        pass
    assert (folder / "kafka" / "topics").exists()
