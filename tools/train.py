"""Train as a configuration says: the same as `segmnv2 train`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
