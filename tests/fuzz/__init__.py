"""Bad input at scale: `python -m tests.fuzz --seconds 120 --seed 1`."""
