"""Make COCO 2017 complete and index it: the same as `segmnv2 prepare-coco`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare-coco", *sys.argv[1:]]))
