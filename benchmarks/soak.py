"""``python -m benchmarks.soak BUNDLE [--texts N]``: see `benchmarks.machine.soak`."""

from __future__ import annotations

import sys

from benchmarks.machine.soak import main

if __name__ == "__main__":
    sys.exit(main())
