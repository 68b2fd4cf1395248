"""A job that leaves processes in sessions of their own, and then waits for ever."""

import signal
import subprocess
import sys
from pathlib import Path

import orch

DAEMON = (
    "import os, signal, sys\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
    "while True: signal.pause()\n"
)


@orch.job(cores=0.1)
def linger(where: str, number: int) -> None:
    subprocess.run([sys.executable, "-c", DAEMON, f"{where}/daemon-{number}"], check=True)
    Path(where, f"ready-{number}").touch()
    while True:
        signal.pause()


@orch.workflow
def main(where: str) -> list[object]:
    for_ever = f"{sys.executable} -c 'import signal; signal.pause()'"
    script = f"setsid {for_ever} & touch {where}/ready-2; {for_ever}"
    program = orch.command(["sh", "-c", script], cores=0.1)
    return [linger(where, 0), linger.options(isolation="pool")(where, 1), program]
