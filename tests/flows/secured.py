"""A bit of everything that leaves files behind.

The last job waits until it is let go, with files from the store around it.
"""

import sys
from pathlib import Path

import orch

LARGE = 100 * 1024


@orch.job(cores=0.1)
def large() -> bytes:
    sys.stdout.write("x" * LARGE)
    sys.stderr.write("x" * LARGE)
    return b"y" * LARGE


@orch.job(cores=0.1, isolation="pool")
def pooled(number: int) -> int:
    return number


@orch.job(cores=0.1)
def write(data: bytes) -> list[orch.FileRef | orch.DirRef]:
    here = orch.context()
    file, below = here.scratch / "file", here.scratch / "tree" / "below"
    file.write_bytes(data)
    file.chmod(0o777)
    below.mkdir(parents=True)
    (below / "leaf").write_text("leaf")
    (below / "leaf").chmod(0o666)
    return [here.write_file(file), here.write_dir(below.parent)]


@orch.job(cores=0.1, retries=1)
def flaky(where: str) -> str:
    if not Path(where, "failed").exists():
        Path(where, "failed").touch()
        raise RuntimeError("the first time")
    return "second"


@orch.job(cores=0.1)
def wait(where: str, refs: list[orch.FileRef | orch.DirRef], _others: object) -> list[orch.FileRef | orch.DirRef]:
    here = orch.context()
    for number, ref in enumerate(refs):
        here.read_file(ref)
        here.read_file(ref, mutable=True)
        here.read_file(ref, to=f"deep/{number}")
    Path(where, "waits").touch()
    Path(where, "go").read_bytes()
    return refs


@orch.workflow
def main(where: str) -> list[object]:
    refs = write(large())
    program = orch.command(
        ["sh", "-c", "seq 20000; cat given >&2; mkdir made; touch made/one; touch two"],
        inputs={"given": refs[0]},
        outputs={"made": "made/", "two": "two"},
        stdout="log/lines",
        cores=0.1,
    )
    plain = orch.command(["seq", "20000"], cores=0.1)
    others = [[pooled(number) for number in range(2)], flaky(where), program, plain["exit_code"]]
    return [wait(where, refs, others), others]
