"""Compare an exported file with its network: the same as `segmnv2 verify`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
