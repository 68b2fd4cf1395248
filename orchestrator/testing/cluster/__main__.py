"""`python -m orch.testing.cluster DIRECTORY`: a cluster, until its stdin ends, or SIGTERM. `--help` says the rest.

It says "ready" on stdout when it listens, and has made the programs of `faces.fake` in DIRECTORY/bin, for
`orch run --adapter fake --fake-cluster DIRECTORY`. If it dies, its tasks do (`orch.agent.guardian`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable

from orch.agent.guardian import guarded
from orch.agent.linux import adopt_orphans
from orch.testing.cluster.control import install
from orch.testing.cluster.daemon import Daemon, listen, nodes
from orch.testing.cluster.faces.fake import COMMANDS
from orch.testing.cluster.scheduler import Scheduler

MEMORY = 1 << 36
"""Of each node, as it says: nothing is reserved."""


def main() -> int:
    """Be a cluster and its guardian."""
    parser = argparse.ArgumentParser(prog="python -m orch.testing.cluster")
    parser.add_argument("directory")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4, help="cores of a node")
    parser.add_argument("--temporary", action="store_true", help="remove the directory at the end")
    words = parser.parse_args()
    directory = os.path.abspath(words.directory)
    os.makedirs(directory, exist_ok=True)
    alive, ready = os.dup(0), os.dup(1)

    def serve(tell: Callable[[bytes], None]) -> int:
        adopt_orphans()
        install(directory, COMMANDS)
        listening = listen(directory)
        # numbers that no cluster before it has given: a directory may have had others
        daemon = Daemon(listening, alive, Scheduler(nodes(words.nodes, words.slots, MEMORY), _first(directory)))
        tell(os.fsencode(os.path.join(directory, "log")))
        os.write(ready, b"ready\n")
        os.close(ready)
        daemon.serve()
        if words.temporary:
            shutil.rmtree(directory, ignore_errors=True)
        return 0

    return guarded(serve)


def _first(directory: str) -> int:
    path = os.path.join(directory, "lives")
    with open(path, "ab") as file:
        file.write(b".")
    return (os.path.getsize(path) - 1) * 100000 + 1


if __name__ == "__main__":
    sys.exit(main())
