"""The start of ``segmnv2``, and of ``python -m segmnv2``, as ``torchrun -m segmnv2 train CONFIG`` needs it."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line of this process.

    A signal that comes while the modules are imported ends it as one that comes later does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it would print a traceback while Python ends
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from segmnv2.signals import interrupting, report_end

    with interrupting() as received:
        try:
            from segmnv2.cli import main as run_command

            return run_command()
        except BaseException:  # a library that was interrupted in its midst may raise anything
            if not received:
                raise
    return report_end(received[0])


if __name__ == "__main__":
    sys.exit(main())
