"""Measures one query with 100 documents: ``python -m benchmarks.scoring ORIGINAL BUNDLE...``.

All bundles come from one original. A reranker scores the pairs; other encoders (dense, sparse, late
interaction) encode the query and the documents, and score them by their similarity. They are
compared with the original in sentence-transformers, in fp32, with its default batch size and with
smaller ones. ``--fastembed PYTHON`` also compares a reranker with the fastembed of that
interpreter, on a plain ONNX graph of the original. Each contender runs in a process of its own.
They take turns, so that a slow phase of the machine affects all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # the interpreter of fastembed has no embedrt
    from embedrt.bundle.manifest import Task

DOCUMENTS = 100
TOKENS = 100
QUERY = "how many people live in london"
BATCHES = (32, 8)  # of sentence-transformers; 32 is its default

ORIGINALS: dict[Task, str] = {
    "embedding": "SentenceTransformer",
    "late-interaction": "MultiVectorEncoder",
    "reranking": "CrossEncoder",
    "sparse": "SparseEncoder",
}

Score = Callable[[str, list[str]], Any]
"""Returns a score for each document."""


@dataclass(slots=True)
class Contender:
    """A process that scores the same documents on request."""

    name: str
    process: subprocess.Popen[str]
    scores: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def ask(self) -> None:
        """Run once and note the seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended; see its output above")
        answer = json.loads(line)
        self.scores = answer["scores"]
        self.wall.append(answer["wall"])
        self.cpu.append(answer["cpu"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    from embedrt import Bundle  # noqa: PLC0415  # workers do not need it

    parser = argparse.ArgumentParser(prog="benchmarks.scoring", description=__doc__)
    parser.add_argument("original", metavar="ORIGINAL", type=Path)
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs="+")
    parser.add_argument("--fastembed", metavar="PYTHON", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    documents = exact_documents(options.original)
    task = Bundle.open(options.bundles[0]).manifest.task
    if options.fastembed is not None and task != "reranking":
        parser.error("--fastembed is for rerankers")
    with ExitStack() as stack:

        def start(
            name: str, python: Path | str, kind: str, path: Path, batch: int = 0
        ) -> Contender:
            worker = ["-m", __spec__.name, "--worker", kind, task, str(path), str(batch)]
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - of this module
                    [str(python), *worker],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                )
            )
            stack.callback(process.kill)
            assert process.stdin is not None
            process.stdin.write(json.dumps(documents) + "\n")
            return Contender(name, process)

        contenders = [
            start(
                f"{ORIGINALS[task]}, batches of {size}",
                sys.executable,
                "torch",
                options.original,
                size,
            )
            for size in BATCHES
        ]
        if options.fastembed is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            export_plain(options.original, folder)
            contenders.append(start("fastembed", options.fastembed, "fastembed", folder))
        contenders += [
            start(f"embedrt {bundle.name}", sys.executable, "embedrt", bundle)
            for bundle in options.bundles
        ]
        for round_number in range(options.rounds + 1):
            for place in range(len(contenders)):
                contenders[(round_number + place) % len(contenders)].ask()
        report(contenders)
    return 0


def report(contenders: Sequence[Contender]) -> None:
    """Print medians, and ratios to the faster one of sentence-transformers."""
    from benchmarks.statistics import median, ratio  # noqa: PLC0415  # workers do not need it

    for each in contenders:
        del each.wall[0], each.cpu[0]  # the first round warms up
    first = min(contenders[: len(BATCHES)], key=lambda each: median(each.wall))
    print("| | wall ms | CPU ms | wall ratio | CPU ratio | largest difference |")
    print("|---|--:|--:|--:|--:|--:|")
    for each in contenders:
        wall, cpu = ratio(first.wall, each.wall), ratio(first.cpu, each.cpu)
        pairs = zip(each.scores, first.scores, strict=True)
        difference = max(abs(one - other) for one, other in pairs)
        print(
            f"| {each.name} | {1e3 * median(each.wall):.0f} | {1e3 * median(each.cpu):.0f} "
            f"| {wall.value:.2f} | {cpu.value:.2f} | {difference:.1e} |"
        )


def exact_documents(original: Path) -> list[str]:
    """Return different texts of exactly `TOKENS` tokens, without special tokens."""
    from benchmarks.harness.texts import exact_texts  # noqa: PLC0415
    from benchmarks.padding import open_tokenizer  # noqa: PLC0415

    tokenizer = open_tokenizer(original, 10**6)
    special = len(tokenizer.encode("").ids)
    return exact_texts(tokenizer, TOKENS + special, DOCUMENTS)


def export_plain(original: Path, folder: Path) -> None:
    """Export the original as fastembed reads it: a graph without fusions, config and tokenizer."""
    import shutil  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415

    model: Any = AutoModelForSequenceClassification.from_pretrained(original).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(original)
    inputs = dict(tokenizer(["a"] * 2, ["b"] * 2, return_tensors="pt"))
    names = list(inputs)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        model, (), folder / "model.onnx", kwargs=inputs, input_names=names,
        output_names=["logits"], dynamic_shapes=dict.fromkeys(names, axes), dynamo=True,
        external_data=False,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    shutil.copy(original / "config.json", folder)


def load(kind: str, task: Task, path: str, batch: int) -> Score:
    """Return a function that scores documents for a query: raw scores, or similarities."""
    if kind == "fastembed":
        return load_fastembed(path)
    model: Any
    options: dict[str, Any] = {}
    identity: Any = "Identity"
    if kind == "embedrt":
        from embedrt.tasks import class_of  # noqa: PLC0415

        model = class_of(task).load(path)
    else:
        import sentence_transformers  # noqa: PLC0415
        import torch  # noqa: PLC0415

        model = getattr(sentence_transformers, ORIGINALS[task])(
            path, device="cpu", local_files_only=True
        )
        options, identity = {"batch_size": batch}, torch.nn.Identity()
    if task == "reranking":
        return lambda query, documents: model.predict(
            [(query, document) for document in documents], activation_fn=identity, **options
        )
    return lambda query, documents: model.similarity(
        model.encode_query([query], **options), model.encode_document(documents, **options)
    )[0]


def load_fastembed(path: str) -> Score:
    """Return fastembed's reranker in a folder of `export_plain`."""
    from fastembed.common.model_description import ModelSource  # noqa: PLC0415
    from fastembed.rerank.cross_encoder import TextCrossEncoder  # noqa: PLC0415

    name = "benchmarks/local"
    TextCrossEncoder.add_custom_model(
        model=name, sources=ModelSource(hf=name), model_file="model.onnx"
    )
    fast = TextCrossEncoder(name, specific_model_path=path)
    return lambda query, documents: list(fast.rerank(query, documents))


def work(kind: str, task: str, path: str, batch: str) -> None:
    """Score the documents of the first line of stdin for each line that follows."""
    score = load(kind, cast("Task", task), path, int(batch))
    documents = json.loads(sys.stdin.readline())
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        scores = [float(each) for each in score(QUERY, documents)]
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps({**seconds, "scores": scores}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        raise SystemExit(main())
