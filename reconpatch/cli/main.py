"""Entry point of the `reconpatch` command."""

import errno
import os
import sys
from typing import TextIO

from reconpatch.cli.arguments import make_parser
from reconpatch.errors import ReconpatchError

INTERRUPTED, READER_GONE = 130, 141  # what shells show of processes that SIGINT and SIGPIPE ended


def main() -> None:
    """Run one command. Exit status: what the command returns, 1 with a message for an error, 130 if interrupted, 141
    if the reader of the output, as `head`, has gone.
    """
    try:
        try:
            status = run()
        finally:  # here, where it may fail: Python would do it at its end, and complain
            if sys.stdout is not None:  # as it is if the shell closed it
                sys.stdout.flush()
    except BrokenPipeError:
        drop_output(sys.stdout, sys.stderr)
        status = READER_GONE
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        drop_output(sys.stdout)
        print(f"error: the output cannot be written ({error.strerror})", file=sys.stderr)
        status = 1
    sys.exit(status)


def run() -> int:
    """Run the command that the arguments name -> its exit status."""
    try:
        given = make_parser().parse_args()
        return int(given.call(given) or 0)
    except ReconpatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def drop_output(*streams: TextIO) -> None:
    """Let what was not yet written to these streams vanish, and what is written later."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
