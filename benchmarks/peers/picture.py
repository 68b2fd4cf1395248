"""The picture, as SVG: for each workload a bar for each engine, from the fastest to the slowest, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from peers.figures import Figure, cells
from peers.roster import Peer
from peers.table import digits

WIDTH = 860
LEFT = 210
BAR = 22
PANELS = {
    "jobs": "A job that does nothing (ms, marginal)",
    "chain": "A link of a chain (ms, marginal)",
    "tree": "A tree of 511 jobs that is made while it runs (s)",
    "one": "One job from the shell (s)",
}
STYLE = """text{font:13px sans-serif;fill:#222}.title{font-weight:bold;font-size:15px}.us{font-weight:bold}
.bar{fill:#9aa7b4}.bar.us{fill:#d1662f}.tick{stroke:#ddd}.scale{font-size:11px;fill:#777}.spread{stroke:#222}"""


def picture(peers: Sequence[Peer], session: Mapping[str, Any]) -> str:
    """The whole of it; a panel for each workload that somebody has run."""
    found = cells(session["measured"])
    parts: list[str] = []
    top = 10
    for workload, title in PANELS.items():
        bars = [(peer, cell) for peer in peers if isinstance(cell := found.get((peer.title, workload)), Figure)]
        if bars:
            parts += panel(top, title, sorted(bars, key=lambda bar: bar[1].median))
            top += 62 + BAR * len(bars)
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    ground = f'<rect width="{WIDTH}" height="{top}" fill="white"/>'
    return (
        "\n".join(
            [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", ground, *parts, "</svg>"]
        )
        + "\n"
    )


def panel(top: int, title: str, bars: list[tuple[Peer, Figure]]) -> list[str]:
    """One workload."""
    values = [value for _, bar in bars for value in (bar.least, bar.median, bar.most) if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 0.01)

    def x(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - 70)

    bottom = top + 30 + BAR * len(bars)
    parts = [f'<text class="title" x="10" y="{top + 16}">{escape(title)}</text>']
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{top + 26}" y2="{bottom}"/>')
        parts.append(f'<text class="scale" x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{10.0**power:g}</text>')
    for row, (peer, figure) in enumerate(bars):
        parts += bar_of(top + 30 + row * BAR, peer, figure, x(figure.least), x(figure.median), x(figure.most))
    return parts


def bar_of(top: int, peer: Peer, figure: Figure, least: float, median: float, most: float) -> list[str]:
    """One engine: a bar to its median, a line over what the rounds span, the median as text."""
    mark = " us" if peer.package is None else ""
    middle = top + BAR / 2 - 2
    return [
        f'<text class="name{mark}" x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(peer.title)}</text>',
        f'<rect class="bar{mark}" x="{LEFT}" y="{top}" width="{max(1.0, median - LEFT):.1f}" height="{BAR - 5}"/>',
        f'<line class="spread" x1="{least:.1f}" x2="{most:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
        f'<text x="{max(most, median) + 6:.1f}" y="{top + 14}">{digits(figure.median)}</text>',
    ]
