"""Which settings each of our adapters has: what `orch config` and `orch run --adapter NAME --help` show.

Light, for the command reads it: what a value means in the end is the dialect's matter.
"""

from __future__ import annotations

from collections.abc import Callable

from orch.adapters.options import Option
from orch.sizes import parse_duration, parse_size


def _whole(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise ValueError(f"{text!r} is not a whole number from 1 on")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return check


def _slurm_args(text: str) -> None:
    from orch.adapters.slurm import arguments  # few runs need it

    arguments.more(text)


def _qsub_args(text: str) -> None:
    from orch.adapters.pbs.words import check_args  # few runs need it

    check_args(text)


def _qsub_reqs(text: str) -> None:
    from orch.adapters.pbs.words import check_reqs  # few runs need it

    check_reqs(text)


def _gridengine_args(text: str) -> None:
    from orch.adapters.gridengine import arguments  # few runs need it

    arguments.more(text)


def _lsf_args(text: str) -> None:
    from orch.adapters.lsf import arguments  # few runs need it

    arguments(text)


def _htcondor_params(text: str) -> None:
    from orch.adapters.htcondor import parameters  # few runs need it

    parameters(text)


def _torque_memory(text: str) -> None:
    for name in text.split(","):
        _one_of("mem", "vmem", "pmem", "pvmem")(name.strip())


def _hosts(text: str) -> object:
    from orch.adapters.ssh.names import parse_hosts  # few runs need it

    return parse_hosts(text)


def _pilot(text: str) -> object:
    from orch.adapters.pilots.choice import parse_pilot  # few runs need it

    return parse_pilot(text)


YES_OR_NO = _one_of("true", "false")

PILOTS: tuple[Option, ...] = (
    Option(
        "batch-pilot",
        "run jobs in so many long tasks, each an agent: nodes=N[,time=TIME,cores=N,memory=SIZE,queue=NAME,gpus=N,"
        "idle=TIME,min=N]; --pilot in short",
        "PARTS",
        "each job is a task",
        _pilot,
    ),
    Option(
        "batch-pilot-address", "the address or interface of a node on which its pilot listens", "NAME", "all of them"
    ),
)
BATCH: tuple[Option, ...] = (
    Option("batch-poll-interval", "ask the batch system that often", "TIME", "as seldom as it can", parse_duration),
    Option("batch-max-queued", "tasks that are in the batch system at once", "N", "1000", _whole),
    Option(
        "batch-memory", "whether it is told how much memory a job needs", "pass|omit", "pass", _one_of("pass", "omit")
    ),
    Option("batch-overhead", "memory beside the job's own, for its worker", "SIZE", "128MiB", parse_size),
    Option("batch-python", "the Python that runs workers on nodes", "PATH", "the leader's"),
    Option("batch-work-dir", "scratch on the nodes", "DIR", "below $TMPDIR of the task, or /tmp"),
    Option("batch-call-timeout", "how long one of its commands may take", "TIME", "60s", parse_duration),
    Option(
        "batch-missing-after", "how long it may not know a task before that is given up", "TIME", "2min", parse_duration
    ),
    Option("batch-strict", "unknown keys in backend={…} are errors", "", "false", YES_OR_NO),
    Option("batch-probe", "first look, from inside a task, whether nodes see the store", "", "true", YES_OR_NO),
    *PILOTS,
)
"""Those of all batch systems."""

SLURM: tuple[Option, ...] = (
    Option("slurm-partition", "the partition of jobs that name none", "NAME", "the default one, or one that fits"),
    Option("slurm-account", "the account that pays", "NAME"),
    Option("slurm-qos", "the quality of service of jobs", "NAME"),
    Option("slurm-preemptible-partition", "likewise, of jobs that may be preempted", "NAME"),
    Option("slurm-preemptible-qos", "likewise, of jobs that may be preempted", "NAME"),
    Option("slurm-args", "more arguments for sbatch, as in a shell; not cores or memory", "ARGS", "", _slurm_args),
    Option("slurm-warning", "how long before Slurm's limit a job hears of it", "TIME", "KillWait", parse_duration),
)
GRIDENGINE: tuple[Option, ...] = (
    Option("gridengine-queue", "the queue, for jobs that name none (qsub -q)", "NAME", "any"),
    Option("gridengine-project", "the project that is charged (qsub -P)", "NAME"),
    Option(
        "gridengine-pe",
        "the parallel environment of jobs with several cores: one that keeps them on one host",
        "NAME",
        variables=("ORCH_SGE_PE",),
    ),
    Option(
        "gridengine-memory-resource",
        "what memory is asked for as: h_vmem, mem_free …, or several, with commas",
        "NAMES",
        "what the site counts",
    ),
    Option("gridengine-disk-resource", "what scratch on the node is asked for as", "NAME", "it is not asked for"),
    Option("gridengine-gpu-resource", "the resource that counts GPUs", "NAME", "gpu"),
    Option(
        "gridengine-args",
        "further options of qsub, but for cores, memory and time",
        "WORDS",
        "",
        _gridengine_args,
        ("ORCH_SGE_ARGS",),
    ),
)
LSF: tuple[Option, ...] = (
    Option("lsf-queue", "the queue, for jobs that name none (bsub -q)", "NAME", "the site's"),
    Option("lsf-project", "the project that is charged (bsub -P)", "NAME"),
    Option("lsf-group", "the user group that is charged (bsub -G)", "NAME"),
    Option(
        "lsf-memory-unit",
        "the unit of memory limits (LSF_UNIT_FOR_LIMITS), where LSF is too old to be told one with each",
        "KB|MB|GB|TB",
        "told with each",
        _one_of("KB", "MB", "GB", "TB"),
    ),
    Option("lsf-memory-per", "what memory is reserved for", "job|core", "as bparams says", _one_of("job", "core")),
    Option("lsf-args", "further options of bsub, but for cores and memory", "WORDS", "", _lsf_args),
)
PBS: tuple[Option, ...] = (
    Option("pbs-queue", "the queue, for jobs that name none", "NAME", "the server's"),
    Option("pbs-account", "the account that is charged (qsub -A)", "NAME"),
    Option("pbs-project", "the project (qsub -P)", "NAME"),
    Option("pbs-args", "further options of qsub, but for cores, memory and time", "WORDS", "", _qsub_args),
    Option("pbs-reqs", "further parts of the chunk in select=, such as bigmem=true:ib=1", "PARTS", "", _qsub_reqs),
    Option("pbs-array-size", "most tasks of an array; 1: no arrays", "N", "1000", _whole),
    Option("pbs-gpu-resource", "the resource that counts GPUs", "NAME", "ngpus"),
    Option("pbs-gpu-model-resource", "the resource that says which model a GPU is", "NAME"),
)
TORQUE: tuple[Option, ...] = (
    Option("torque-queue", "the queue, for jobs that name none", "NAME", "the server's"),
    Option("torque-account", "the account that is charged (qsub -A)", "NAME"),
    Option(
        "torque-args",
        "further options of qsub, but for cores, memory and time",
        "WORDS",
        "",
        _qsub_args,
        ("ORCH_PBS_ARGS",),
    ),
    Option(
        "torque-reqs",
        "further parts of nodes=1:ppn=N, such as bigmem:ib",
        "PARTS",
        "",
        _qsub_reqs,
        ("ORCH_PBS_REQS",),
    ),
    Option("torque-array-size", "most tasks of an array; 1: no arrays", "N", "1000", _whole),
    Option(
        "torque-memory-resource",
        "what memory is asked for as: mem, vmem, pmem, pvmem, or several, with commas",
        "NAMES",
        "mem",
        _torque_memory,
    ),
)
HTCONDOR: tuple[Option, ...] = (
    Option("htcondor-schedd", "the schedd that has the jobs (condor_submit -name)", "NAME", "this host's"),
    Option("htcondor-pool", "the central manager of the pool (condor_submit -pool)", "HOST", "the configured one"),
    Option("htcondor-accounting-group", "the group that is charged", "NAME"),
    Option(
        "htcondor-params",
        "further lines of submit descriptions, with ; between them, but for cores and memory",
        "LINES",
        "",
        _htcondor_params,
    ),
)
FAKE: tuple[Option, ...] = (Option("fake-cluster", "the directory in which the fake cluster lives", "DIR"),)
SSH: tuple[Option, ...] = (
    Option("ssh-hosts", "the hosts, with the cores to be used: node1:16,user@node2:8", "HOSTS", "", _hosts),
    Option("ssh-config", "a configuration of OpenSSH", "PATH", "~/.ssh/config"),
    Option("ssh-key", "the private key to log in with", "PATH", "what OpenSSH would use"),
    Option("ssh-known-hosts", "the keys of the hosts", "PATH", "what OpenSSH would use"),
    Option("ssh-python", "the Python there", "PATH", "the leader's, or the newest in PATH"),
    Option("ssh-work-dir", "scratch there, and a mirror of the store if it is not seen", "DIR", "$TMPDIR and ~/.cache"),
    Option("ssh-lost-after", "how long one may be away before its jobs run elsewhere", "TIME", "5min", parse_duration),
    Option("ssh-connect-timeout", "in which a host has to let us in", "TIME", "20s", parse_duration),
)

OURS: dict[str, tuple[Option, ...]] = {
    "slurm": (*SLURM, *BATCH),
    "gridengine": (*GRIDENGINE, *BATCH),
    "lsf": (*LSF, *BATCH),
    "pbs": (*PBS, *BATCH),
    "torque": (*TORQUE, *BATCH),
    "htcondor": (*HTCONDOR, *BATCH),
    "fake": (*FAKE, *BATCH),
    "ssh": SSH,
}
"""By adapter."""
