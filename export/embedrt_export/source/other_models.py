"""Recognizes the kind of a model by signs in its files, and refuses kinds that are not exported."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from embedrt.bundle.reader import MANIFEST
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.checkpoint import WEIGHT_FILES, unread_weights
from embedrt_export.source.checks import TEXT, JsonObject, read_object, refusal
from embedrt_export.source.files import file_names

ADAPTER = "adapter_config.json"
DENSE = "SentenceTransformer"

CROSS_ENCODER = "a cross-encoder or classifier, which scores texts and gives no embedding"
GENERATIVE = (
    "a reranker that answers yes or no, whose score is the logit of the next token (LogitScore)"
)
SPARSE = "a sparse encoder, which gives a weight for each word of its vocabulary"
LATE = "a late interaction model, which gives a vector for each token"
IMAGES = "a model of images and texts"
ROUTER = "a router between several encoders"

MODEL_TYPES = {
    "CrossEncoder": CROSS_ENCODER,
    "SparseEncoder": SPARSE,
    "MultiVectorEncoder": LATE,
    "ColBERT": LATE,
}
MODULES = {
    "LogitScore": GENERATIVE,
    "MLMTransformer": SPARSE,
    "SpladePooling": SPARSE,
    "SparseAutoEncoder": SPARSE,
    "CSRSparsity": SPARSE,
    "SparseStaticEmbedding": SPARSE,
    "IDF": SPARSE,
    "MultiVectorMask": LATE,
    "TokenPooling": LATE,
    "HierarchicalTokenPooling": LATE,
    "CLIPModel": IMAGES,
    "Router": ROUTER,
    "Asym": ROUTER,
}
TASKS = {
    "sequence-classification": CROSS_ENCODER,
    "text-generation": GENERATIVE,
    "any-to-any": GENERATIVE,
    "fill-mask": SPARSE,
    "retrieval": LATE,
}
ARCHITECTURES = {
    "ForSequenceClassification": CROSS_ENCODER,
    "ForCausalLM": GENERATIVE,
    "ColBERT": LATE,
    "ForRetrieval": LATE,
}


def find_signs(
    model: JsonObject, modules: Sequence[str], transformer: JsonObject
) -> list[tuple[str, str]]:
    """Return the signs of a kind of model other than dense embeddings, each with the kind.

    Parameters
    ----------
    model
        Content of ``config_sentence_transformers.json``.
    modules
        Class names of the modules.
    transformer
        Content of ``sentence_bert_config.json``.
    """
    model_type = model.get("model_type", DENSE)
    task = str(transformer.get("transformer_task"))
    score = str(model.get("similarity_fn_name"))
    signs = [
        *((f"module {module}", MODULES.get(module)) for module in modules),
        (f"model_type {model_type}", MODEL_TYPES.get(str(model_type))),
        (f"transformer_task {task}", TASKS.get(task)),
        (f"similarity_fn_name {score}", LATE if score.lower() == "maxsim" else None),
    ]
    return [(sign, kind) for sign, kind in signs if kind]


def find_sign_of_architecture(folder: Path) -> tuple[str, str] | None:
    """Return the architecture in a folder's ``config.json`` that is a sign, with the kind."""
    architectures = read_object(folder / "config.json").get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    for name in names:
        for part, kind in ARCHITECTURES.items():
            if part in name:
                return name, kind
    return None


def refuse_kind(
    folder: Path, model: JsonObject, modules: Sequence[str], transformer: JsonObject
) -> None:
    """Raise UnsupportedModelError naming the kind of a model that has no dense embedding.

    `folder` is the model's folder; see `find_signs`.
    """
    for sign, kind in find_signs(model, modules, transformer):
        raise refusal(folder, f"it is {kind} ({sign})")
    model_type = model.get("model_type", DENSE)
    if TEXT.accepts(model_type) and model_type != DENSE:
        raise refusal(folder, f"its model_type is {model_type}, and {DENSE} is expected")


def refuse_adapter(folder: Path) -> None:
    """Raise UnsupportedModelError if `folder` holds an adapter for another model's weights."""
    if (folder / ADAPTER).is_file():
        raise UnsupportedModelError(_adapter(folder))


def refuse_folder(folder: Path) -> None:
    """Raise an error for a folder without ``modules.json`` that says what the folder holds."""
    refuse_adapter(folder)
    names = file_names(folder)
    found = find_sign_of_architecture(folder)
    if found is not None and not unread_weights(names):
        name, kind = found
        raise refusal(folder, f"it is {kind} ({name})")
    raise SourceError(why_no_model(folder, names))


def why_no_model(place: Path | str, names: Collection[str]) -> str:
    """Return why a place without ``modules.json`` is not exported, and what to do.

    `names` are its files, relative to it.
    """
    if ADAPTER in names:
        return _adapter(place)
    if MANIFEST in names:
        return (
            f"{place} is a bundle, which needs no export: load it, or export the model that it was "
            "made of"
        )
    why = f"{place} is not a sentence-transformers model: it has no modules.json"
    if others := unread_weights(names):
        return f"{why} and none of {', '.join(WEIGHT_FILES)}{others}"
    return (
        f"{why}. Load it with sentence-transformers, choose its pooling, and save it; then export "
        "that folder"
    )


def _adapter(place: Path | str) -> str:
    return (
        f"{place} holds {ADAPTER}: it is an adapter, to be added to the weights of another "
        "model. Load it with sentence-transformers, merge the two (merge_and_unload of peft), "
        "save the whole model, and export that folder"
    )
