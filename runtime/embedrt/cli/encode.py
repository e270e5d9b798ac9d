"""``embedrt encode``: a file of texts to a file of vectors, in bounded memory."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, get_args

import numpy as np
from numpy.typing import NDArray

from embedrt.cli.lines import add_input_options, read_texts
from embedrt.embedder import Embedder
from embedrt.progress import progress_bar
from embedrt.text.truncation import Overlong

PRECISIONS = ("float32", "float16", "binary", "ubinary")
NPY_HEADER_BYTES = 128


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("encode", help="embed texts", description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    add_input_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="X.npy|X.jsonl",
        help="a file; JSON lines on stdout if not given",
    )
    parser.add_argument(
        "--prompt-name", help="which of the model's prompts to put before each text"
    )
    parser.add_argument("--prompt", help="a text to put before each text")
    parser.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    parser.add_argument("--truncate-dim", type=int, metavar="N", help="keep N leading components")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use")
    parser.add_argument(
        "--overlong",
        choices=get_args(Overlong),
        default="truncate",
        help="what happens to a text longer than the model takes",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Embed the texts of a file."""
    if options.output is not None and options.output.suffix not in (".npy", ".jsonl"):
        raise ValueError(f"--output {options.output}: the name must end in .npy or .jsonl")
    with Embedder.load(
        options.bundle, threads=options.threads, overlong=options.overlong
    ) as embedder:
        blocks = embedder.embed_stream(
            read_texts(options.file, options.field),
            prompt_name=options.prompt_name,
            prompt=options.prompt,
            normalize_embeddings=options.normalize,
            truncate_dim=options.truncate_dim,
            precision=options.precision,
        )
        shown = _with_progress(blocks)
        if options.output is None:
            _write_jsonl(sys.stdout.buffer, shown)
        else:
            with _replacing(options.output) as file:
                if options.output.suffix == ".npy":
                    _write_npy(file, shown, embedder, options)
                else:
                    _write_jsonl(file, shown)


def _with_progress(blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    with progress_bar(None, shown=sys.stderr.isatty()) as advance:
        for block in blocks:
            advance(len(block))
            yield block


def _write_jsonl(file: BinaryIO, blocks: Iterator[NDArray[Any]]) -> None:
    for block in blocks:
        for vector in block:
            # item by item, not tolist(): the shortest digits that give the float32 back
            values = [
                float(str(value)) if vector.dtype.kind == "f" else int(value) for value in vector
            ]
            file.write(json.dumps(values).encode() + b"\n")
    file.flush()


def _write_npy(
    file: BinaryIO, blocks: Iterator[NDArray[Any]], embedder: Embedder, options: argparse.Namespace
) -> None:
    """Write the vectors as they come, then the header that says how many there were."""
    file.write(bytes(NPY_HEADER_BYTES))
    rows, sample = (
        0,
        embedder.encode([], truncate_dim=options.truncate_dim, precision=options.precision),
    )
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)
        rows += len(block)
    header = {
        "descr": np.lib.format.dtype_to_descr(sample.dtype),
        "fortran_order": False,
        "shape": (rows, sample.shape[1]),
    }
    text = repr(header).encode()
    magic = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little")
    file.seek(0)
    file.write(magic + text.ljust(NPY_HEADER_BYTES - 11) + b"\n")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside `path` and rename at the end, so that no half file ever has its name.

    SIGTERM ends the process with nothing left behind, as an exception does.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)  # mkstemp's files are for their owner alone
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as shells expect
