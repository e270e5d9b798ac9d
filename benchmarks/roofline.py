"""``python -m benchmarks.roofline BUNDLE...``: see `benchmarks.machine.roofline`."""

from benchmarks.machine.roofline import main

if __name__ == "__main__":
    main()
