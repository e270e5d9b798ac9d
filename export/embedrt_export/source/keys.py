"""Tables of the settings that sentence-transformers and transformers read when they load a model.

They cover the loaders of sentence-transformers 5.7 to 6.2 and transformers 4.56 to 5.24:
``Transformer`` and the modules of ``sentence_transformers``, ``PreTrainedTokenizerBase`` and its
fast classes. A test compares the tables with the installed versions.
"""

from __future__ import annotations

from dataclasses import replace

from embedrt_export.source.checks import (
    ANY,
    COUNT,
    FLAG,
    LIST,
    NUMBER,
    OBJECT,
    SIDE,
    SIZE,
    TEXT,
    TEXTS,
    WHOLE,
    Kind,
    Table,
    honored,
    object_of,
    overruled,
    refused,
)
from embedrt_export.source.encoder_keys import ENCODER, OTHER_WEIGHTS

# The first file that exists and is not empty is used.
TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

_LOADED = "transformers loads the tokenizer with it, and the bundle holds the tokenizer as loaded"
_UNPADDED = "a text is embedded without padding"
_UNREAD = "no encoder reads it"
_DECODING = "it affects only decoding"
_CHATS = "it affects only chats; texts are embedded unchanged"
_LEFTOVER = "sentence-transformers truncates to its own maximum"
_FIXED = "sentence-transformers sets it at each load"
_TEXT_ONLY = "embedrt embeds texts"
_SAME_NUMBERS = "it changes how the encoder is computed, not the result"
_LATE_INTERACTION = (
    "it belongs to late interaction, where queries and documents are cut differently"
)

_SPECIAL = Kind("a string, an object or null", lambda v: v is None or isinstance(v, str | dict))

# Options for locating files, which are resolved before a model is loaded.
HUB = {
    name: overruled(ANY, _FIXED)
    for name in (
        "cache_dir",
        "local_files_only",
        "revision",
        "subfolder",
        "token",
        "trust_remote_code",
    )
}

TOKENIZER = Table(
    unknown="ignored",  # the loaded tokenizer reflects the keys of individual classes
    keys={
        "model_max_length": honored(SIZE.or_null, "texts are truncated to it"),
        "max_len": honored(SIZE.or_null, "the old name of model_max_length"),
        "truncation_side": honored(SIDE, "the manifest has it"),
        "model_input_names": honored(TEXTS, "they say whether tokens have types"),
        "tokenizer_class": honored(TEXT.or_null, _LOADED),
        "processor_class": honored(TEXT.or_null, _LOADED),
        **{
            f"{role}_token": honored(_SPECIAL, _LOADED)
            for role in ("bos", "cls", "eos", "mask", "pad", "sep", "unk")
        },
        "do_lower_case": honored(FLAG.or_null, _LOADED),
        "strip_accents": honored(FLAG.or_null, _LOADED),
        "tokenize_chinese_chars": honored(FLAG.or_null, _LOADED),
        "add_prefix_space": honored(FLAG.or_null, _LOADED),
        "add_bos_token": honored(FLAG.or_null, _LOADED),
        "add_eos_token": honored(FLAG.or_null, _LOADED),
        "added_tokens_decoder": honored(OBJECT, _LOADED),
        "additional_special_tokens": honored(LIST.or_null, _LOADED),
        "extra_special_tokens": honored(ANY, _LOADED),
        "model_specific_special_tokens": honored(ANY, _LOADED),
        "fix_mistral_regex": honored(FLAG.or_null, _LOADED),
        "fast_tokenizer_files": honored(TEXTS.or_null, _LOADED),
        "tokenizer_type": honored(TEXT.or_null, _LOADED),
        "backend": honored(TEXT.or_null, _LOADED),
        "init_inputs": honored(ANY, _LOADED),
        "vocab": honored(ANY, _LOADED),
        "merges": honored(ANY, _LOADED),
        "unk_id": honored(ANY, _LOADED),
        "post_processor": honored(ANY, _LOADED),
        "auto_map": overruled(ANY, "embedrt does not run code of the model's author"),
        "from_slow": refused("embedrt needs the tokenizer's fast form", but=(None, False)),
        "use_fast": refused("embedrt needs the tokenizer's fast form", but=(None, True)),
        "split_special_tokens": refused(
            "a tokenizer.json cannot say that special tokens in a text are split",
            but=(None, False),
        ),
        "gguf_file": refused("embedrt does not read GGUF files"),
        "mistral_format": refused("embedrt does not read Mistral's own format", but=(None, False)),
        "padding_side": overruled(SIDE, _UNPADDED),
        "pad_to_multiple_of": overruled(ANY, _UNPADDED),
        "pad_token_type_id": overruled(ANY, _UNPADDED),
        "tokenizer_padding": overruled(ANY, _UNPADDED),
        "max_length": overruled(ANY, _LEFTOVER),
        "stride": overruled(ANY, _LEFTOVER),
        "truncation_strategy": overruled(ANY, _LEFTOVER),
        "tokenizer_truncation": overruled(ANY, _LEFTOVER),
        "clean_up_tokenization_spaces": overruled(ANY, _DECODING),
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": overruled(
            ANY, _DECODING
        ),
        "chat_template": overruled(ANY, _CHATS),
        "chat_control_tokens": overruled(ANY, _CHATS),
        "response_schema": overruled(ANY, _CHATS),
        "response_template": overruled(ANY, _CHATS),
        "files_loaded": overruled(ANY, _FIXED),
        "is_local": overruled(ANY, _FIXED),
        "name_or_path": overruled(ANY, _FIXED),
        "tokenizer_file": overruled(ANY, _FIXED),
        "tokenizer_object": overruled(ANY, _FIXED),
        "vocab_file": overruled(ANY, _FIXED),
        "verbose": overruled(ANY, "it affects only log messages"),
        **HUB,
    },
)

# Keyword arguments of tokenizer calls.
_CALL = Table(
    unknown="refused",
    keys={
        "max_length": honored(COUNT, "texts are truncated to it, regardless of max_seq_length"),
        "add_special_tokens": honored(FLAG, "the bundle's tokenizer adds what this one adds"),
        "return_token_type_ids": honored(FLAG.or_null, "token types come from the tokenizer"),
        "truncation": refused(
            "embedrt always truncates", but=(True, "longest_first", "only_first")
        ),
        "padding": refused(
            "embedrt pads no text", but=(True, False, None, "longest", "do_not_pad")
        ),
        "pad_to_multiple_of": refused("embedrt pads no text"),
        "padding_side": overruled(SIDE.or_null, _UNPADDED),
        "return_tensors": refused("sentence-transformers needs torch tensors", but=("pt",)),
        "return_overflowing_tokens": refused(
            "a text would have several vectors", but=(None, False)
        ),
        "return_attention_mask": overruled(FLAG.or_null, _UNPADDED),
        "is_split_into_words": refused("embedrt takes texts, not words", but=(None, False)),
        "split_special_tokens": refused(
            "a tokenizer.json cannot say that special tokens in a text are split",
            but=(None, False),
        ),
        "text_pair": refused("embedrt embeds single texts, not pairs"),
        "text_target": refused("embedrt embeds single texts, not pairs"),
        "text_pair_target": refused("embedrt embeds single texts, not pairs"),
        "stride": overruled(WHOLE, "it affects only the tokens that truncation drops"),
        "return_special_tokens_mask": overruled(ANY, _UNREAD),
        "return_offsets_mapping": overruled(ANY, _UNREAD),
        "return_length": overruled(ANY, _UNREAD),
        "logits_to_keep": overruled(ANY, "only models that generate read it"),
        "verbose": overruled(ANY, "it affects only log messages"),
    },
)

_PROCESSING = Table(
    unknown="ignored",
    inside={"common": _CALL, "text": _CALL},
    keys={
        "common": honored(OBJECT, "as each of its keys says"),
        "text": honored(OBJECT, "as each of its keys says"),
        "audio": overruled(OBJECT, _TEXT_ONLY),
        "image": overruled(OBJECT, _TEXT_ONLY),
        "video": overruled(OBJECT, _TEXT_ONLY),
        "chat_template": overruled(OBJECT, _CHATS),
    },
)

_MODEL_ARGUMENTS = Table(
    unknown="refused",
    keys={
        "dtype": overruled(ANY, "embedrt computes in float32"),
        "torch_dtype": overruled(ANY, "embedrt computes in float32"),
        "attn_implementation": overruled(ANY, _SAME_NUMBERS),
        "use_kernels": overruled(ANY, _SAME_NUMBERS),
        "device_map": overruled(ANY, _SAME_NUMBERS),
        "low_cpu_mem_usage": overruled(ANY, _SAME_NUMBERS),
        "add_pooling_layer": overruled(ANY, "the encoder's own pooler is not used"),
        "quantization_config": refused(OTHER_WEIGHTS),
        "load_in_4bit": refused(OTHER_WEIGHTS, but=(None, False)),
        "load_in_8bit": refused(OTHER_WEIGHTS, but=(None, False)),
        "variant": refused(OTHER_WEIGHTS),
        "use_safetensors": refused(OTHER_WEIGHTS, but=(None, True)),
        "gguf_file": refused(OTHER_WEIGHTS),
        **HUB,
    },
)

_CONFIG_ARGUMENTS = Table(
    unknown="ignored",  # they override keys of config.json, which is read with them
    keys={
        **ENCODER.keys,
        "return_unused_kwargs": refused("sentence-transformers fails on it", but=(None, False)),
        "gguf_file": refused(OTHER_WEIGHTS),
        **HUB,
    },
)

TRANSFORMER = Table(
    unknown="refused",
    inside={
        "model_args": _MODEL_ARGUMENTS,
        "model_kwargs": _MODEL_ARGUMENTS,
        "tokenizer_args": TOKENIZER,
        "processor_kwargs": TOKENIZER,
        "config_args": _CONFIG_ARGUMENTS,
        "config_kwargs": _CONFIG_ARGUMENTS,
        "processing_kwargs": _PROCESSING,
    },
    keys={
        "max_seq_length": honored(COUNT.or_null, "texts are truncated to it"),
        "do_lower_case": honored(FLAG.or_null, "the bundle's tokenizer has it"),
        "model_args": honored(OBJECT, "as each of its keys says"),
        "model_kwargs": honored(OBJECT, "as each of its keys says"),
        "tokenizer_args": honored(OBJECT, "as each of its keys says"),
        "processor_kwargs": honored(OBJECT, "as each of its keys says"),
        "config_args": honored(OBJECT, "they replace keys of config.json"),
        "config_kwargs": honored(OBJECT, "they replace keys of config.json"),
        "processing_kwargs": honored(OBJECT.or_null, "as each of its keys says"),
        "modality_config": honored(OBJECT.or_null, "texts go through the encoder's forward"),
        "module_output_name": honored(TEXT.or_null, "the encoder gives token vectors"),
        "transformer_task": refused(
            "an encoder with a task head gives no token vectors", but=("feature-extraction",)
        ),
        "query_length": refused(_LATE_INTERACTION),
        "document_length": refused(_LATE_INTERACTION),
        "query_expansion": refused(_LATE_INTERACTION),
        "tokenizer_name_or_path": refused("the tokenizer would come from another model"),
        "unpad_inputs": overruled(ANY, _SAME_NUMBERS),
        "backend": overruled(ANY, _FIXED),
        "cache_dir": overruled(ANY, _FIXED),
    },
)

# The same file of a cross-encoder.
CLASSIFIER = replace(
    TRANSFORMER,
    keys={
        **TRANSFORMER.keys,
        "transformer_task": refused(
            "its scores are not those of a classifier", but=("sequence-classification",)
        ),
    },
)

# The same file of a sparse encoder.
MASKED = replace(
    TRANSFORMER,
    keys={
        **TRANSFORMER.keys,
        "transformer_task": refused("it gives no logits of words", but=("fill-mask",)),
    },
)

MODEL = Table(
    unknown="ignored",
    keys={
        "max_active_dims": honored(COUNT.or_null, "a sparse encoder's manifest has it"),
        "__version__": overruled(
            object_of(TEXT.or_null), "sentence-transformers only warns about it"
        ),
        "requirements": overruled(ANY, "sentence-transformers itself checks them"),
        "model_type": honored(TEXT, "a kind of model that gives no dense vectors is refused"),
        "prompts": honored(object_of(TEXT.or_null), "the manifest has them"),
        "default_prompt_name": honored(TEXT.or_null, "the manifest has it"),
        "similarity_fn_name": honored(TEXT.or_null, "the manifest has it"),
        "truncate_dim": honored(COUNT.or_null, "the graph outputs only the first components"),
    },
)

MODULE = Table(
    unknown="ignored",
    keys={
        "type": honored(TEXT, "the module's class"),
        "path": honored(TEXT, "the module's folder"),
        "name": honored(TEXT, "no two modules may share one"),
        "idx": overruled(ANY, "the order of the list counts"),
        "kwargs": overruled(ANY, "they name keywords that a caller may pass, and none passes any"),
    },
)

MODEL2VEC = Table(
    unknown="ignored",  # they record how the model was made
    keys={
        "model_type": honored(TEXT, "it says that the model is one of model2vec"),
        "normalize": honored(FLAG.or_null, "the graph normalizes the embedding"),
        "max_length": honored(COUNT.or_null, "texts are truncated to it"),
    },
)

_POOLING_SWITCH = honored(FLAG.or_null, "the pooling's mode in older files")

POOLING = Table(
    unknown="refused",
    keys={
        "pooling_mode": honored(TEXT.or_list, "the pooling's mode, or several to concatenate"),
        "pooling_mode_cls_token": _POOLING_SWITCH,
        "pooling_mode_max_tokens": _POOLING_SWITCH,
        "pooling_mode_mean_tokens": _POOLING_SWITCH,
        "pooling_mode_mean_sqrt_len_tokens": _POOLING_SWITCH,
        "pooling_mode_weightedmean_tokens": _POOLING_SWITCH,
        "pooling_mode_lasttoken": _POOLING_SWITCH,
        "include_prompt": honored(FLAG, "the pooling leaves the prompt out if it is false"),
        "embedding_dimension": overruled(COUNT, "the encoder's own width counts"),
        "word_embedding_dimension": overruled(COUNT, "the encoder's own width counts"),
    },
)

DENSE = Table(
    unknown="refused",
    keys={
        "in_features": honored(COUNT, "checked against the weights"),
        "out_features": honored(COUNT, "checked against the weights"),
        "bias": honored(FLAG, "the weights may then lack one"),
        "activation_function": honored(TEXT, "one of torch's that graphs support"),
        "use_residual": honored(FLAG, "the input is added to the output"),
        "module_input_name": honored(TEXT, "the value that the module reads"),
        "module_output_name": honored(TEXT.or_null, "the value that the module writes"),
        "init_weight": refused("the weights are read from their own file"),
        "init_bias": refused("the weights are read from their own file"),
    },
)

LAYER_NORM = Table(
    unknown="refused", keys={"dimension": honored(COUNT, "checked against the weights")}
)

NORMALIZE = Table(
    unknown="ignored",
    keys={
        "module_input_name": refused(
            "versions of sentence-transformers differ in what they normalize",
            but=("sentence_embedding",),
        ),
        "module_output_name": refused(
            "versions of sentence-transformers differ in what they normalize",
            but=(None, "sentence_embedding"),
        ),
    },
)

DROPOUT = Table(
    unknown="refused",
    keys={"dropout": overruled(NUMBER, "it has no effect outside of training")},
)

HEAD = {
    "Pooling": POOLING,
    "Dense": DENSE,
    "LayerNorm": LAYER_NORM,
    "Normalize": NORMALIZE,
    "Dropout": DROPOUT,
}
WITHOUT_CONFIG = frozenset({"Normalize", "Dropout"})  # modules of a head that may have no settings
