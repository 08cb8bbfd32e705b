"""Run every command that docs/performance.md shows, and put what it prints under it.

python benchmarks/into_docs.py [PART OF A COMMAND]
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"(?<=^```text\n\$ )(?P<command>python benchmarks/.*)\n[^`]*(?=^```$)", re.MULTILINE)


def main() -> None:
    """Write the page anew after every command, so that none is lost where a later one fails."""
    part = " ".join(sys.argv[1:])
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if part in block["command"]:
            print(block["command"], flush=True)
            words = [sys.executable, *shlex.split(block["command"])[1:]]
            printed = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 (our own page)
            text = PAGE.read_text(encoding="utf-8").replace(block[0], f"{block['command']}\n{printed}")
            PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
