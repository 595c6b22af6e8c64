"""Turn a foreign checkpoint into one of segmnv2's files: the same as `segmnv2 import`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["import", *sys.argv[1:]]))
