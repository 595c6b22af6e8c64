"""Make VOC 2012 and train_aug complete: the same as `segmnv2 prepare-voc`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare-voc", *sys.argv[1:]]))
