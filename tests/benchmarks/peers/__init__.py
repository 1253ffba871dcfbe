"""Pingstream beside other engines that do the same job: `python -m tests.benchmarks.peers`."""
