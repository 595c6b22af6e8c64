"""Write a network for another runtime: the same as `segmnv2 export`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
