"""Ranks that rank 0 starts as its child processes, where no Slurm starts them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping

from harness.stages.process_group import Place

LAST_LINES = 15


class Child:
    """Another rank: its output is printed, each line marked with the rank, and its last lines are kept."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self.rank = place.rank
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.stages.ranks"],
            env={**environment, **place.variables()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C goes to rank 0, which passes it on
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.append(line.rstrip())
                print(f"[rank {self.rank}] {line.rstrip()}", file=sys.stderr, flush=True)

    def failure(self) -> str | None:
        """Says how the process failed; None while it runs and if it ended well."""
        code = self.process.poll()
        if not code:
            return None
        self._listener.join(timeout=1)
        end = f"was ended by signal {-code} (out of memory?)" if code < 0 else "failed"
        return "\n".join([f"rank {self.rank} {end}", *self.lines])

    def end(self) -> None:
        """Ends the process at once, if it still runs."""
        self.process.kill()
        self.process.wait()
