"""A whole engine in virtual time: the real leader, log and agent, on simulated disks, processes, clocks and networks.

One seed decides everything. `world` has time and chance, `process` what runs in it, `disk` what lasts; `story` makes
from a seed what goes wrong and when, and `oracle` watches that nothing is ever lost and nothing ever runs twice.
"""
