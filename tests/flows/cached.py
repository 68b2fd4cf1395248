"""Jobs whose values may be taken from earlier calls. Each body that runs says so in a file named after itself."""

from pathlib import Path

import orch


def _ran(where: str, name: str) -> None:
    with (Path(where) / name).open("a") as file:
        file.write(".\n")


@orch.job(cache=True, cores=0.1)
def leaf(where: str, number: int) -> int:
    _ran(where, f"leaf{number}")
    return number


@orch.job(cache=True, cores=0.1)
def tree(where: str, count: int) -> dict[str, object]:
    """A value in which other values stand, one of them twice."""
    _ran(where, "tree")
    leaves = [leaf(where, number) for number in range(count)]
    return {"leaves": leaves, "last": leaves[-1]}


@orch.job(cache=True, cores=0.1)
def written(where: str, text: str) -> orch.FileRef:
    _ran(where, "written")
    path = orch.context().scratch / "text"
    path.write_text(text)
    return orch.context().write_file(path)


@orch.job(cache=True, cores=0.1)
def passed_on(where: str, file: orch.FileRef) -> dict[str, orch.FileRef]:
    _ran(where, "passed_on")
    return {"same": file}


@orch.job(cores=0.1)
def read(where: str, files: dict[str, orch.FileRef], found: dict[str, object]) -> list[object]:
    _ran(where, "read")
    return [found["leaves"], found["last"], Path(orch.context().read_file(files["same"])).read_text()]


@orch.workflow
def main(where: str, count: int = 3, text: str = "text") -> list[object]:
    return read(where, passed_on(where, written(where, text)), tree(where, count))
