"""What of the kit of adapters is tried with each scripted batch system, and what with the fake one only.

They share the engine and the worker. What depends on nothing else is told by the fake one's kit, and by theirs in
`make nightly`: together they would take a third of the time that all tests have.
"""

from __future__ import annotations

SCRIPTED = frozenset({"test_kit_htcondor.py", "test_kit_lsf.py", "test_kit_pbs.py", "test_kit_torque.py"})

SHARED = frozenset(
    {
        "test_a_body_that_raises",
        "test_a_file",
        "test_a_program_that_is_not_there",
        "test_a_service",
        "test_a_service_that_is_cancelled",
        "test_an_earlier_leader_is_refused",
        "test_cancelled_and_unknown",
        "test_down_when_the_next_leader_comes",
        "test_down_while_it_is_cancelled",
        "test_in_a_folder_of_its_own",
        "test_much",
        "test_nobody_knows_it",
        "test_python",
        "test_running_while_the_leader_was_away",
        "test_said_twice",
        "test_slow",
        "test_started_twice",
        "test_the_leader_dies_while_it_hands_over",
        "test_told_twice",
        "test_what_is_not_asked_for_is_ended",
        "test_what_it_has_written_so_far",
        "test_what_it_leaves_behind_is_ended",
    }
)
