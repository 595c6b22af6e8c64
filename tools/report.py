"""Print the paper's tables beside what was measured: the same as `segmnv2 report`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
