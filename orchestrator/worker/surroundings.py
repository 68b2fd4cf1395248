"""The environment of an attempt on a node: the run's, and what only the node and the batch system can say.

Whatever else a login sets there stays out: a job finds the same on all nodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orch.agent.devices import GIVEN, Device, said
from orch.bus.events import Accelerator

_OF_THE_NODE = (
    # the user here, and where things are here
    "HOME|USER|LOGNAME|USERNAME|SHELL|TMPDIR|TMP|TEMP|XDG_RUNTIME_DIR|HOSTNAME|KRB5CCNAME|X509_USER_PROXY|PATH|TZ"
    # Slurm (sbatch(1), OUTPUT ENVIRONMENT VARIABLES; srun's PMI)
    "|SLURM.*|SBATCH_.*|PMI.*|PMIX.*"
    # Grid Engine (submit(1), qsub(1), ENVIRONMENT VARIABLES)
    "|SGE_.*|ARC|JOB_ID|JOB_NAME|JOB_SCRIPT|NHOSTS|NQUEUES|NSLOTS|PE|PE_HOSTFILE|QUEUE|REQUEST|RESTARTED|RESTARTED_.*"
    # LSF (Environment variables set for job execution)
    "|LSB_.*|LSF_.*|LS_.*|LSFUSER"
    # PBS and Torque (qsub(1), ENVIRONMENT VARIABLES)
    "|PBS_.*|NCPUS|MOM_.*"
    # HTCondor (Users' manual, "Environment variables set in the job's environment")
    "|_CONDOR_.*|CONDOR_.*|BATCH_SYSTEM"
    # what was given to this job of the devices
    "|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ROCR_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES"
    "|ZE_AFFINITY_MASK|CUDA_MPS_.*"
)
_NODE = re.compile(_OF_THE_NODE)

_PATHS = "PYTHONPATH"

_LISTS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Variables in which batch systems name the GPUs of a job."""


def environment_of(run: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """`run`: what the leader has sent. `here`: the worker's own.

    The worker's way to `orch` comes after that of the run.
    """
    found = {name: value for name, value in here.items() if _NODE.fullmatch(name)} | dict(run)
    ways = [each for each in (run.get(_PATHS, ""), here.get(_PATHS, "")) if each]
    return found | ({_PATHS: ":".join(ways)} if ways else {})


def given_to(wanted: Sequence[Accelerator], here: Mapping[str, str]) -> dict[str, str]:
    """What tells an attempt which GPUs it was given, as on any host, where the batch system says that. Pure.

    Its own variables for devices stay as they are: it has hidden the others.
    """
    gpus = [each for each in wanted if each.kind == "gpu"]
    listed = next(filter(None, (here.get(name, "") for name in _LISTS)), "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not gpus or len(names) < sum(each.count for each in gpus):
        return {}
    model = gpus[0].model if len(gpus) == 1 else ""
    return {GIVEN: said(Device("gpu", name, model) for name in names)}
