"""Plain pings: the short way of a batch of messages into the ledgers of many installations, by columns."""
