"""Refuses assignments to the settings that a loaded bundle shares with sentence-transformers.

In sentence-transformers, ``model.truncate_dim = 256`` changes later vectors. Here, it would have no
effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

_PROMPTS = "pass prompt= or prompt_name= to the call"
_LENGTH = "set {} in the model's sentence_bert_config.json and export it again"

ADVICE: Final[Mapping[str, str]] = {
    "activation_fn": "pass activation_fn= to the call",
    "default_activation_function": "pass activation_fn= to the call",
    "default_prompt_name": _PROMPTS,
    "document_length": _LENGTH.format("document_length"),
    "max_active_dims": "pass max_active_dims= to the call",
    "max_length": "set model_max_length in the model's tokenizer_config.json and export it again",
    "max_seq_length": _LENGTH.format("max_seq_length"),
    "max_tokens": _LENGTH.format("max_seq_length"),
    "prompts": _PROMPTS,
    "query_length": _LENGTH.format("query_length"),
    "similarity_fn_name": "call embedrt.similarity.similarity(a, b, name)",
    "tokenizer": "save the model with the other tokenizer and export it again",
    "truncate_dim": "pass truncate_dim= to the call",
}
"""What to do instead of an assignment, by the setting."""


def refuse_assignment(name: str) -> None:
    """Raise AttributeError if `name` is a setting, which an assignment would not change."""
    if name in ADVICE:
        raise AttributeError(f"{name} is fixed when a bundle is loaded; {ADVICE[name]}")


class FixedPrompts(dict[str, str]):
    """Prompts by name. Any change raises TypeError; ``dict(prompts)`` makes a copy to change."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"the prompts are fixed when a bundle is loaded; {_PROMPTS}, or change a copy: "
            "dict(prompts)"
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        """Pickle and copy as a plain dict."""
        return dict, (dict(self),)
