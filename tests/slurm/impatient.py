"""`python -m harness.sweep`, but it asks Slurm for its jobs every two seconds instead of twice a minute."""

from __future__ import annotations

import sys

from harness import sweep
from harness.launch import queue

if __name__ == "__main__":
    queue.ASK_EVERY_S = 2.0
    sys.exit(sweep.main())
