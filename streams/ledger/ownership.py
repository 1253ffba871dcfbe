"""Whose a partition is: owners are told apart by epochs, which rise from each to the next."""

from __future__ import annotations

from streams.ledger.state import Version


class Ownership:
    """One owner's hold of a partition.

    Args:
        generation: of the consumer group in which the partition is owned.

    Attributes:
        epoch: ours, above that of every owner before us that is known.
        settled: it is known to be above those of the sink's rows.
        found: there is state of an owner before us.
        outrun: the state was owned in a later generation than ours.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.epoch = _next_epoch(0, 0, generation)
        self.settled = self.found = self.outrun = False

    def follow(self, version: Version, generation: int, settled: bool) -> None:
        """There is an owner before us: the version and the generation of its state, and whether its epoch was settled."""
        self.epoch = _next_epoch(version.epoch, generation, self.generation)
        self.found, self.outrun, self.settled = True, generation > self.generation, settled

    def settle(self, newest_epoch: int) -> None:
        """Of a partition whose state does not know it: the newest epoch of rows in the sink, which may be those of an earlier
        state. Our own is above it from now on; the claim makes that known."""
        self.epoch = max(self.epoch, _next_epoch(newest_epoch, 0, self.generation))
        self.settled = True


def _next_epoch(known: int, owner: int, generation: int) -> int:
    """The epoch of a partition's next owner.

    Owners that find the same state get epochs in the order of their generations: a worker that was paused between reading the
    state and making its epoch known shares it with nobody.

    Args:
        known: epoch that was found, 0 without any.
        owner, generation: of the consumer group, in which that one's owner and the next one own the partition. They rise by
            one with each rebalance; a group that begins anew counts from 1.
    """
    return known + max(1, generation - owner if generation > owner else generation)
