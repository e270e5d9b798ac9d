"""``python -m benchmarks.soak BUNDLE [--texts N]``: see `benchmarks.machine.soak`."""

from benchmarks.machine.soak import main

if __name__ == "__main__":
    raise SystemExit(main())
