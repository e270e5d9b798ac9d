"""``python -m benchmarks.corpus BUNDLE [--rows N]``: see `benchmarks.machine.corpus`."""

from benchmarks.machine.corpus import main

if __name__ == "__main__":
    raise SystemExit(main())
