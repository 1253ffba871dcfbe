"""Three Kafka nodes on this machine, brokers and controllers alike: one may die at any time, and the cluster works on."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

from deploy.kafka.broker import HOST, LocalBroker, _free_port

NODES = 3
HEAP_MB = 320

REPLICATED = {
    "offsets.topic.replication.factor": NODES,
    "transaction.state.log.replication.factor": NODES,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": NODES,
    "share.coordinator.state.topic.min.isr": 2,
    "min.insync.replicas": 2,
}


class Node(LocalBroker):
    """One of several nodes.

    Args:
        number: its node id, from 1 on.
        voters: every node's controller port, by node id.
    """

    def __init__(self, data_dir: Path, port: int, number: int, voters: Mapping[int, int], cluster: str) -> None:
        super().__init__(data_dir, port, heap_mb=HEAP_MB)
        self._number = number
        self._voters = voters
        self._cluster = cluster

    def _configure(self) -> int:
        super()._configure()
        controller = self._voters[self._number]
        settings = {
            "node.id": self._number,
            "controller.quorum.voters": ",".join(f"{number}@{HOST}:{port}" for number, port in self._voters.items()),
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
            **REPLICATED,
        }
        with (self.data_dir / "server.properties").open(
            "a", encoding="ascii"
        ) as file:  # of two lines the later one counts
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        return controller

    def _java(self, arguments: list[str], lock: IO[str]) -> subprocess.Popen[bytes]:
        return super()._java(
            [f"--cluster-id={self._cluster}" if a.startswith("--cluster-id=") else a for a in arguments], lock
        )


class Cluster:
    """Nodes in folders under `folder`; a context manager."""

    def __init__(self, folder: Path) -> None:
        ports: list[int] = []
        while len(ports) < 2 * NODES:
            if (port := _free_port()) not in ports:
                ports.append(port)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        voters = dict(enumerate(ports[NODES:], 1))
        self.nodes = {
            number: Node(folder / f"node{number}", ports[number - 1], number, voters, cluster) for number in voters
        }

    @property
    def bootstrap(self) -> str:
        """All nodes, for clients."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(NODES) as threads:  # none answers before a second one is there
            list(threads.map(LocalBroker.start, self.nodes.values()))
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            node.kill()
