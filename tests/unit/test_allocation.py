import platform
import subprocess
import sys

CODE = """
import resource
import numpy as np
from reconpatch.runtime import keep_freed_memory
kept = keep_freed_memory() if {tuned} else False
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
print(kept, first, faults())
"""


def test_freed_blocks_are_used_again() -> None:
    """The second block of 64 MB faults in no fresh pages; in a process of its own, as the setting cannot be undone."""
    for tuned in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(tuned=tuned)], capture_output=True, text=True, check=True
        )
        kept, first, second = done.stdout.split()
        assert kept == str(tuned and platform.libc_ver()[0] == "glibc")
        assert int(first) > 0
        assert (int(second) < int(first) / 4) == (kept == "True")
