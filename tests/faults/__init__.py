"""Faults with real processes: any plug is pulled at any time, and every figure is still what the oracle computes.

`python -m tests.faults --list` names the cases, `python -m tests.faults CASE --seed S` runs one again. A seed fixes what is
sent and when which fault comes; how far the processes have got by then is the machine's.
"""
