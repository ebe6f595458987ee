"""Entry point of the `reconpatch` command."""

import os
import sys

from reconpatch.cli.arguments import make_parser
from reconpatch.errors import ReconpatchError


def main() -> None:
    """Run one command. Exit status: what the command returns, 1 with a message for an error, 130 if interrupted."""
    given = make_parser().parse_args()
    try:
        sys.exit(given.call(given))
    except ReconpatchError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # the reader, as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python still flushes it
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
