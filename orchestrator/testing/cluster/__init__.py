"""A small batch system of real processes in a directory, for tests of adapters: it queues, starts, kills and forgets.

`control.Cluster(directory)` starts and ends one, and can make it fail in many ways. `client.Client(directory)` is how
programs speak to it: the commands of batch systems that `faces` imitate, mostly. It knows nothing of orch.
"""
