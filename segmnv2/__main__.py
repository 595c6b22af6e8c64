"""``python -m segmnv2``, as ``torchrun -m segmnv2 train CONFIG`` needs it."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main())
