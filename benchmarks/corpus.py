"""``python -m benchmarks.corpus BUNDLE [--rows N]``: see `benchmarks.machine.corpus`."""

from benchmarks.harness.corpus_peers import peers_of
from benchmarks.machine.corpus import main

if __name__ == "__main__":
    raise SystemExit(main(peers_of=peers_of))
