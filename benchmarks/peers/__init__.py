"""orch beside other engines: the same workloads, in turn, in one session. `make bench-peers` runs it.

`roster` says who takes part, `drivers/` has a program for each; `environments` installs them, `supervise` runs a driver
and ends all that it leaves behind; `figures` reduces what was measured, `table` and `picture` show it.
"""
