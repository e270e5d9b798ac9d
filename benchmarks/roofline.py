"""``python -m benchmarks.roofline BUNDLE...``: see `benchmarks.machine.roofline`."""

from __future__ import annotations

from benchmarks.machine.roofline import main

if __name__ == "__main__":
    main()
