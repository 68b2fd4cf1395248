"""Show the result of wordcount.py as a table: python examples/table.py RESULT.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print it."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(f"{result['files']:,} files, {result['words']:,} words, {result['different']:,} of them different\n")
    for rank, (word, times) in enumerate(result["top"], start=1):
        print(f"{rank:4}  {word:<20}{times:>10,}")


if __name__ == "__main__":
    main()
