"""Files that go when nobody needs them any more; one of them is in a value that later calls may take."""

from pathlib import Path

import orch


def _ran(where: str, name: str) -> None:
    with (Path(where) / name).open("a") as file:
        file.write(".\n")


@orch.job(cache=True, cores=0.1)
def brief(where: str) -> orch.FileRef:
    """Its file would go with those who need it, were the value not kept for later calls."""
    _ran(where, "brief")
    path = orch.context().scratch / "brief"
    path.write_text("brief")
    return orch.context().write_file(path, keep="successors")


@orch.job(cores=0.1)
def plain(where: str) -> orch.FileRef:
    _ran(where, "plain")
    path = orch.context().scratch / "plain"
    path.write_text("plain")
    return orch.context().write_file(path, keep="successors")


@orch.job(cores=0.1)
def length(where: str, *files: orch.FileRef) -> int:
    _ran(where, "length")
    return sum(len(Path(orch.context().read_file(file)).read_text()) for file in files)


@orch.workflow
def main(where: str) -> int:
    return length(where, brief(where), plain(where))
