"""`python -I -S launch.py CLUSTER FOLDER MODULE:FUNCTION [WORD ...]`: what a command of a face is, as a program.

Commands are called hundreds of times in a test, so this starts without site-packages (-S): the package `orch` is made
up here, from the folder above, and only what lies in that can be imported; and in FOLDER, if it is not empty.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType


def main() -> int:
    """Call the function with the cluster and the words; what it returns is the exit code."""
    package = ModuleType("orch")
    package.__path__ = [os.path.abspath(os.path.join(__file__, "..", "..", ".."))]
    sys.modules["orch"] = package
    cluster, folder, target, *words = sys.argv[1:]
    if folder:
        sys.path.insert(0, folder)
    module, _, function = target.partition(":")
    client = import_module("orch.testing.cluster.client")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    try:
        return int(getattr(import_module(module), function)(client.Client(cluster), words) or 0)
    except client.Nonsense as nonsense:
        sys.stdout.write(f"{nonsense}\n")
        return 0
    except client.Unreachable as error:  # the face had no words of its own for it
        sys.stderr.write(f"cannot reach the server: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
