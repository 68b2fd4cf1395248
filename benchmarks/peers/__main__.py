"""Run the same workloads on orch and on its peers, in turn, and show a table: python -m peers [NAME …]."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peers.environments import Environment, Missing, cache_directory, environment_of
from peers.picture import picture
from peers.roster import PEERS, Peer
from peers.supervise import adopt_orphans, run_driver
from peers.table import table

BEGIN, END = "<!-- begin: make bench-peers -->", "<!-- end: make bench-peers -->"


def machine() -> dict[str, Any]:
    """What figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    processor = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "processor": processor[1] if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def wanted(peer: Peer, scale: float, *, first: bool) -> list[str]:
    """What a driver is to run. Killing is not timed: it is tried once."""
    for_driver = []
    for workload, sizes in peer.sizes.items():
        if first or workload != "kill":
            scaled = [size if workload in {"tree", "one"} else max(4, round(size * scale)) for size in sizes]
            for_driver += [f"{workload}:{size}" for size in dict.fromkeys(scaled)]
    return for_driver


def measure(peers: Sequence[Peer], options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """All rounds. A round has each peer once, so that all see the same machine."""
    places: dict[str, Environment] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            places[peer.title] = environment_of(peer, options.cache)
        except Missing as error:
            missing[peer.title] = str(error)
    session = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "rounds": options.rounds,
        "load": [],
        "versions": {title: place.version for title, place in places.items()},
        "missing": missing,
        "measured": [],
    }
    try:
        for number in range(options.rounds):
            session["load"].append(os.getloadavg()[0])
            for peer in peers:
                if peer.title in places:
                    session["measured"] += one_round(peer, places[peer.title], number, options, out)
                    (out / "peers.json").write_text(
                        json.dumps(session, indent=1)
                    )  # whoever loses patience has something
    except KeyboardInterrupt:
        print("interrupted: what has been measured is shown", file=sys.stderr)
    session["load"].append(os.getloadavg()[0])
    return session


def one_round(
    peer: Peer, environment: Environment, number: int, options: argparse.Namespace, out: Path
) -> Iterator[dict[str, Any]]:
    """What one peer does in one round."""
    print(f"round {number + 1}: {peer.title} …", file=sys.stderr, flush=True)
    texts = wanted(peer, options.scale, first=number == 0)
    said = run_driver(environment, peer.driver, peer.form, texts, options.patience, out / "peers.log")
    for one in said:
        yield {"round": number, "peer": peer.title, **one}


def check_publish(docs: Path, *, whole: bool) -> None:
    """Before anything is measured: a table of all engines, or none, takes the place of the one that is there."""
    if not whole:
        raise SystemExit("--publish takes all engines, and at least one round: else it would replace a whole table")
    if not docs.is_file() or END not in docs.read_text(encoding="utf-8").partition(BEGIN)[2]:
        raise SystemExit(f"{docs}: there is no such file, or the lines {BEGIN!r} and {END!r} are missing in it")


def publish(docs: Path, shown: str, drawn: str) -> None:
    """Put the table in the place of the one before, and the picture beside it."""
    text = docs.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{docs}: the lines {BEGIN!r} and {END!r} are missing")
    image = docs.with_suffix(".svg")
    image.write_text(drawn, encoding="utf-8")
    link = f"![The figures as bars, the shortest on top]({image.name})"
    docs.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{link}\n\n{END}{after}", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="engines: orch, dask, parsl … (default: all)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=cache_directory(),
        metavar="DIR",
        help="where peers are installed (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/bench"),
        metavar="DIR",
        help="for peers.{md,svg,json,log} (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each runs (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="run X times as many jobs")
    parser.add_argument(
        "--patience",
        type=float,
        default=600,
        metavar="S",
        help="seconds that a peer has for a round (default: %(default)s)",
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FILE", help=f"a Markdown file whose part between {BEGIN} and {END} is replaced"
    )
    parser.add_argument("--show", action="store_true", help="measure nothing: show what DIR/peers.json has")
    return parser.parse_args()


def main() -> None:
    """Measure, write, print."""
    options = arguments()
    names = {name.lower() for name in options.names}
    known = {peer.driver for peer in PEERS}
    if names - known:
        raise SystemExit(f"no such engine: {', '.join(sorted(names - known))}; there are: {', '.join(sorted(known))}")
    if options.publish:
        check_publish(options.publish, whole=not names and options.rounds >= 1)
    peers = [peer for peer in PEERS if not names or peer.driver in names]
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.show:
        session = json.loads((out / "peers.json").read_text())
    else:
        adopt_orphans()
        session = measure(peers, options, out)
        (out / "peers.json").write_text(json.dumps(session, indent=1))
    shown, drawn = table(peers, session), picture(peers, session)
    (out / "peers.md").write_text(shown + "\n", encoding="utf-8")
    (out / "peers.svg").write_text(drawn, encoding="utf-8")
    print(shown)
    if options.publish and len(session["load"]) <= max(1, options.rounds):
        raise SystemExit(f"not published: the session did not come to its end; it is in {out}")
    if options.publish:
        publish(options.publish, shown, drawn)


if __name__ == "__main__":
    main()
