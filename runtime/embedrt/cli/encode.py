"""``embedrt encode``: embed a file of texts, in bounded memory."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import Manifest
from embedrt.bundle.reader import Bundle
from embedrt.cli.bundles import add_bundle
from embedrt.cli.lines import add_input_options, read_texts
from embedrt.cli.output import is_special, replacing
from embedrt.embedder import Embedder
from embedrt.files import expand
from embedrt.loaded import LoadOptions
from embedrt.pair import TextKind
from embedrt.progress import progress_bar
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import SparseRows
from embedrt.text.prompts import Prompts
from embedrt.text.truncation import Overlong

Block = TypeVar("Block", NDArray[Any], SparseRows)

# Options with their defaults.
DENSE_ONLY = {"normalize": False, "truncate_dim": None, "precision": "float32"}
SPARSE_ONLY = {"max_active_dims": None, "task": None}
PRECISIONS = ("float32", "float16", "binary", "ubinary")
NPY_HEADER_BYTES = 128


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("encode", help="embed texts", description=__doc__)
    add_bundle(parser)
    add_input_options(parser)
    parser.add_argument(
        "--output",
        type=expand,
        metavar="X.npy|X.jsonl",
        help="a file (stdout if omitted); a device, a pipe or stdout gets JSON lines",
    )
    add_embedding_options(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use")
    parser.add_argument(
        "--overlong",
        choices=get_args(Overlong),
        default="truncate",
        help="what to do with texts longer than the model's maximum (truncate)",
    )
    parser.set_defaults(run=run)


def add_embedding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine the vectors of a text."""
    parser.add_argument(
        "--prompt-name", metavar="NAME", help="the model's prompt to prepend to each text"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="a string to prepend to each text")
    parser.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    parser.add_argument("--truncate-dim", type=int, metavar="N", help="keep N leading components")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="number format (float32)"
    )
    parser.add_argument(
        "--max-active-dims",
        type=int,
        metavar="N",
        help="keep the N largest weights, for a sparse encoder",
    )
    parser.add_argument(
        "--task", choices=get_args(TextKind), help="kind of the texts, for a sparse encoder"
    )


def run(options: argparse.Namespace) -> None:
    """Embed the texts of a file."""
    output: Path | None = options.output
    if output is not None and output.suffix not in (".npy", ".jsonl") and not is_special(output):
        raise ValueError(f"--output {output}: the name must end in .npy or .jsonl")
    bundle = Bundle.open(options.bundle)
    load = LoadOptions(threads=options.threads, overlong=options.overlong)
    if bundle.manifest.task == "sparse":
        _encode_sparse(bundle, load, options)
        return
    _refuse(options, SPARSE_ONLY, "a bundle of a sparse encoder")
    with Embedder(bundle, load) as embedder:
        blocks = embedder.embed_stream(
            read_texts(options.file, options.field),
            prompt_name=options.prompt_name,
            prompt=options.prompt,
            normalize_embeddings=options.normalize,
            truncate_dim=options.truncate_dim,
            precision=options.precision,
        )
        shown = _with_progress(blocks)
        if output is None:
            _write_jsonl(sys.stdout.buffer, shown)
            return
        with replacing(output) as file:
            if output.suffix != ".npy":
                _write_jsonl(file, shown)
            elif file.seekable():
                _write_npy(file, shown, embedder, options)
            else:
                # The header is at the start of the file, but is only known at the end.
                with tempfile.TemporaryFile() as whole:
                    _write_npy(whole, shown, embedder, options)
                    whole.seek(0)
                    shutil.copyfileobj(whole, file)


def _encode_sparse(bundle: Bundle, load: LoadOptions, options: argparse.Namespace) -> None:
    """Write one line of indices and values per text."""
    output: Path | None = options.output
    if output is not None and output.suffix == ".npy":
        raise ValueError(f"--output {output}: sparse rows are JSON lines; name it X.jsonl")
    _refuse(options, DENSE_ONLY, "dense embeddings")
    with SparseEncoder(bundle, load) as encoder:
        blocks = encoder.embed_stream(
            read_texts(options.file, options.field),
            prompt_name=options.prompt_name or prompt_name_of(bundle.manifest, options),
            prompt=options.prompt,
            max_active_dims=options.max_active_dims,
            task=options.task,
        )
        with nullcontext(sys.stdout.buffer) if output is None else replacing(output) as file:
            _write_sparse(file, _with_progress(blocks))


def prompt_name_of(manifest: Manifest, options: argparse.Namespace) -> str | None:
    """Return the name of the prompt for a task; None for the bundle's default prompt."""
    prompts = Prompts.of(manifest)
    named = {"query": prompts.query, "document": prompts.document}
    return None if options.prompt is not None else named.get(options.task)


def _refuse(options: argparse.Namespace, names: Mapping[str, object], what: str) -> None:
    """Raise ValueError for an option that requires another kind of bundle."""
    for name, default in names.items():
        value = getattr(options, name)
        if value != default:
            raise ValueError(f"--{name.replace('_', '-')} {value}: only for {what}")


def _write_sparse(file: BinaryIO, blocks: Iterator[SparseRows]) -> None:
    for block in blocks:
        for row in block:
            values = [float(str(value)) for value in row.values]
            line = {"indices": row.indices.tolist(), "values": values}
            file.write(json.dumps(line).encode() + b"\n")
    file.flush()


def _with_progress(blocks: Iterator[Block]) -> Iterator[Block]:
    with progress_bar(None, shown=sys.stderr.isatty()) as advance:
        for block in blocks:
            advance(len(block))
            yield block


def _write_jsonl(file: BinaryIO, blocks: Iterator[NDArray[Any]]) -> None:
    for block in blocks:
        for vector in block:
            # Unlike tolist(), str() gives the fewest digits that round-trip to the same float32.
            values = [
                float(str(value)) if vector.dtype.kind == "f" else int(value) for value in vector
            ]
            file.write(json.dumps(values).encode() + b"\n")
    file.flush()


def _write_npy(
    file: BinaryIO, blocks: Iterator[NDArray[Any]], embedder: Embedder, options: argparse.Namespace
) -> None:
    """Write the vectors as they arrive, then the header, which contains their number."""
    file.write(bytes(NPY_HEADER_BYTES))
    rows = 0
    sample = embedder.encode([], truncate_dim=options.truncate_dim, precision=options.precision)
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
