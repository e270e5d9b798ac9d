"""``python -m benchmarks.planner``: see `benchmarks.machine.planner`."""

from benchmarks.machine.planner import main

if __name__ == "__main__":
    raise SystemExit(main())
