"""Label images: the same as `segmnv2 infer`."""

from __future__ import annotations

import sys

from segmnv2.cli import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
