"""Measure a model on a data set: the same as `segmnv2 evaluate`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
