"""Measures the quality of a reranker in int8: ``python -m benchmarks.rerank_sts DATA FOLDER``.

DATA has `stsb-en-train.csv` and `stsb-en-test.csv`, as their author publishes them. Trains a
cross-encoder on the train pairs from the weights of all-MiniLM-L6-v2, which takes minutes, and
exports it in fp32 and int8. FOLDER holds the model and the bundles; existing ones are reused.
Prints the Spearman correlation with the human scores of the test pairs.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.quality import spearman
from benchmarks.harness.texts import Judged, read_pairs
from benchmarks.markdown import head, row
from benchmarks.models import minilm_folder
from embedrt import Reranker
from embedrt.bundle.manifest import Precision
from embedrt_export import export_model

EPOCHS = 2
BATCH = 32
LEARNING_RATE = 5e-5
WARM_UP = 0.1  # share of the steps
HIGHEST = 5.0  # human score
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and compare."""
    parser = argparse.ArgumentParser(prog="benchmarks.rerank_sts", description=__doc__)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--pairs", metavar="N", type=int, help="train on N pairs; by default all")
    options = parser.parse_args(arguments)
    model = options.folder / "model"
    if not model.exists():
        judged = read_pairs(options.data / "stsb-en-train.csv")
        chosen = random.Random(0).sample(judged, options.pairs or len(judged))  # noqa: S311
        train(chosen, model)
    judged = read_pairs(options.data / "stsb-en-test.csv")
    print(head("", "Spearman", "difference"))
    own = 100 * spearman(original_scores(model, judged), [score for *_, score in judged])
    print(row("CrossEncoder", f"{own:.2f}", ""), flush=True)
    for precision in PRECISIONS:
        bundle = options.folder / precision
        if not bundle.exists():
            export_model(str(model), output=bundle, precision=precision)
        with Reranker.load(bundle) as reranker:
            scores = reranker.predict([(first, second) for first, second, _ in judged])
        found = 100 * spearman(scores, [score for *_, score in judged])
        print(row(f"embedrt {precision}", f"{found:.2f}", f"{found - own:+.2f}"), flush=True)


def original_scores(model: Path, judged: Sequence[Judged]) -> list[float]:
    """Return the scores of sentence-transformers."""
    from sentence_transformers import CrossEncoder  # noqa: PLC0415  # heavy

    encoder = CrossEncoder(str(model), device="cpu", local_files_only=True)
    scores = encoder.predict([(first, second) for first, second, _ in judged])
    return [float(score) for score in scores]


def train(judged: Sequence[Judged], folder: Path) -> None:
    """Train a cross-encoder with one label on human scores, and save it."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    library: Any = transformers
    torch.manual_seed(0)
    source = minilm_folder()
    tokenizer = library.AutoTokenizer.from_pretrained(source)
    model = library.AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(judged) // BATCH)
    schedule = library.get_linear_schedule_with_warmup(optimizer, int(WARM_UP * steps), steps)
    loss_of = torch.nn.BCEWithLogitsLoss()
    generator = random.Random(0)  # noqa: S311
    for epoch in range(EPOCHS):
        shuffled = generator.sample(judged, len(judged))
        for start in range(0, len(shuffled), BATCH):
            firsts, seconds, scores = zip(*shuffled[start : start + BATCH], strict=True)
            inputs = tokenizer(
                list(firsts), list(seconds), padding=True, truncation=True, return_tensors="pt"
            )
            loss = loss_of(model(**inputs).logits[:, 0], torch.tensor(scores) / HIGHEST)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
