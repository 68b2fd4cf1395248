"""Jobs that need the environment, and fail, and are tried again; none of them tells what is in it."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import orch

NAMES = ("AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "DB_PASSWORD", "PLAIN_SETTING", "NAMED")
CHECK = f"import os, sys; sys.exit(0 if all(name in os.environ for name in {NAMES}) else 9)"
environment = os.environ


def there() -> bool:
    return all(name in os.environ for name in NAMES)


@orch.job(cores=0.1)
def forked() -> bool:
    return there()


@orch.job(cores=0.1, isolation="pool")
def pooled() -> bool:
    return there()


@orch.job(cores=0.1)
def called(function: Callable[[], bool]) -> bool:
    return function()


@orch.job(cores=0.1)
def makes() -> list[object]:
    """In a job, as in the workflow function: a program with the environment and a bit more."""
    return [program(), called(lambda: all(name in environment for name in NAMES))]


def program() -> object:
    return orch.command([sys.executable, "-c", CHECK], env={**os.environ, "MORE": "1"}, cores=0.1)["exit_code"]


@orch.job(cores=0.1, retries=2)
def flaky(where: str) -> str:
    secrets = [os.environ[name] for name in NAMES]
    if not Path(where, "failed").exists():
        Path(where, "failed").touch()
        raise RuntimeError(f"the first time, with {len(secrets)} secrets")
    return "second"


@orch.job(cores=0.1)
def fails() -> None:
    secrets = dict(os.environ)
    raise ValueError(len(secrets))


@orch.job(cores=0.1)
def lacks() -> None:
    raise KeyError(os.environ["THERE_IS_NO_SUCH_VARIABLE"])


@orch.job(cores=0.1)
def waits(where: str, _others: object) -> bool:
    Path(where, "waits").touch()
    Path(where, "go").read_bytes()
    return True


@orch.workflow
def main(where: str, bad: bool = False, tell: bool = False) -> object:
    if tell:
        return orch.command(["sh", "-c", "echo $MY_TOKEN"], cores=0.1)["stdout"]
    if bad:
        bare = orch.command(["there-is-no-such-program"], env=os.environ, cores=0.1)
        given = orch.command(["false"], env=dict(os.environ), outputs={"x": "x"}, cores=0.1)
        return [fails(), lacks(), bare, given]
    capturing = called(functools.partial(lambda given: all(name in given for name in NAMES), os.environ))
    done = [forked(), pooled(), program(), makes(), capturing, flaky(where)]
    return [waits(where, done), done]
