"""Entry point of ``segmnv2`` and of ``python -m segmnv2``, which ``torchrun -m segmnv2 train CONFIG`` needs."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line of this process.

    A signal during the import of the modules stops it in the same way as a later one.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may print a traceback when Python exits
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from segmnv2.signals import interrupting, report_end

    with interrupting() as received:
        try:
            from segmnv2.cli import main as run_command

            return run_command()
        except BaseException:  # an interrupted library may raise any error
            if not received:
                raise
    return report_end(received[0])


if __name__ == "__main__":
    sys.exit(main())
