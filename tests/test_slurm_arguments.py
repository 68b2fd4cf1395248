"""What users say to sbatch: taken as it is, or refused with the reason, before anything is submitted."""

from __future__ import annotations

import pytest

from orch.adapters.settings import SLURM
from orch.adapters.slurm import arguments


def test_what_is_allowed_is_taken_as_a_shell_would() -> None:
    assert arguments.more("""-A "my lab" --constraint='a&b' -x n1,n2 --nice --mem-bind=local -Q""") == [
        "-A", "my lab", "--constraint=a&b", "-x", "n1,n2", "--nice", "--mem-bind=local", "-Q",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-c 4", "needs in cores"),
        ("-c4", "needs in cores"),
        ("--cpus-per-task 4", "needs in cores"),
        ("--cpus-per-t=4", "needs in cores"),  # sbatch takes any beginning of a name
        ("-n 2", "needs in cores"),
        ("-N2", "needs in cores"),
        ("--ntasks-per-node=2", "needs in cores"),
        ("--mem=1G", "needs in memory"),
        ("--mem-per-cpu 1G", "needs in memory"),
        ("--mem-per-g=1", "needs in memory"),
        ("-a 1-3", "orch sets --array itself"),
        ("--arr=1-3", "orch sets --array itself"),
        ("-o x", "orch sets --output itself"),
        ("-p main -J x", "orch sets --job-name itself"),
        ("--export=ALL", "orch sets --export itself"),
        ("--exp=ALL", "orch sets --export itself"),
        ("--requeue", "orch sets --requeue itself"),
        ("-W", "orch sets --wait itself"),
        ("--wrap=true", "orch sets --wrap itself"),
        ("-M other", "orch sets --clusters itself"),
        ("--test-only", "orch sets --test-only itself"),
        ("-p main job.sh", "'job.sh' is no option"),
        ("job.sh", "'job.sh' is no option"),
        ("--", "'--' is no option"),
        ("-HQ", "joins options"),
        ("--qos", "has no value"),
        ("-A 'lab", "No closing quotation"),
    ],
)
def test_what_orch_says_itself_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        arguments.more(text)
    option = next(each for each in SLURM if each.name == "slurm-args")
    assert problem in option.problem(text)


def test_a_value_is_no_option() -> None:
    assert arguments.more("--comment=-c4 -A lab") == ["--comment=-c4", "-A", "lab"]
    assert arguments.names(["--comment=x", "-A", "lab", "-pmain", "--time", "1", "--nice=5"]) == {
        "comment", "account", "partition", "time", "nice",
    }  # fmt: skip


def test_what_is_passed_through_by_a_job() -> None:
    given = (("constraint", "ib"), ("exclusive", "true"), ("hold", ""), ("exclusive", "user"), ("nosuch", "1"))
    assert arguments.passed(given) == (["--constraint=ib", "--exclusive", "--hold", "--exclusive=user"], ["nosuch"])
    with pytest.raises(ValueError, match="what a job needs in memory is said by the job itself"):
        arguments.passed((("mem", "1G"),))
    with pytest.raises(ValueError, match="orch sets --output itself"):
        arguments.passed((("output", "x"),))


def test_variables_of_an_outer_job_and_of_formats_are_taken_out() -> None:
    environment = {
        "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100", "SBATCH_ACCOUNT": "lab",
        "SBATCH_WAIT": "1", "SBATCH_ARRAY_INX": "1-3", "SQUEUE_FORMAT2": "jobid", "SACCT_FORMAT": "user",
        "PATH": "/bin", "SLURM_TIME_FORMAT": "relative", "SLURM_CLUSTERS": "a,b",
    }  # fmt: skip
    assert arguments.variables(environment) == dict.fromkeys(
        ["SACCT_FORMAT", "SBATCH_ARRAY_INX", "SBATCH_WAIT", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_TIME_FORMAT",
         "SQUEUE_FORMAT2"]
    )  # fmt: skip
