"""A program that kills the agent which has started it, once; and others beside it that do no harm."""

import orch

SCRIPT = """
if [ -e "$0" ]; then printf 'second time'; exit 0; fi
touch "$0"
kill -9 $PPID
sleep 1000
"""


@orch.job(cores=0.1)
def harmless(number: int) -> int:
    return number


@orch.workflow
def main(where: str) -> list[object]:
    hostile = orch.command(["sh", "-c", SCRIPT, f"{where}/was here"], cores=0.1)
    return [hostile["stdout"], [harmless(number) for number in range(6)]]
