"""A job that leaves processes in sessions of their own, and then waits for ever."""

import subprocess
import sys
import time
from pathlib import Path

import orch

DAEMON = (
    "import os, sys, time\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
    "time.sleep(1000)\n"
)


@orch.job(cores=0.1)
def linger(where: str, number: int) -> None:
    subprocess.run([sys.executable, "-c", DAEMON, f"{where}/daemon-{number}"], check=True)
    Path(where, f"ready-{number}").touch()
    time.sleep(1000)


@orch.workflow
def main(where: str) -> list[object]:
    script = f"setsid {sys.executable} -c 'import time; time.sleep(1000)' & touch {where}/ready-2; sleep 1000"
    program = orch.command(["sh", "-c", script], cores=0.1)
    return [linger(where, 0), linger.options(isolation="pool")(where, 1), program]
