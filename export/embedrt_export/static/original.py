"""The original static model, with which the bundle is compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.proof.remembered import Remembered
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.static import StaticSettings
from embedrt_export.static.libraries import Model2Vec, SentenceTransformers

CUT_TEXT = "Around 9 Million people live in London"


class StaticOriginal:
    """A static model in its own library. It embeds one text at a time.

    Embeddings are cached, so that the weights can be released before a bundle is compared.
    Raises UnsupportedModelError if the library is not installed or does not run the model.
    """

    def __init__(self, settings: StaticSettings) -> None:
        self._max_characters = settings.max_characters
        kind = Model2Vec if settings.family == "model2vec" else SentenceTransformers
        try:
            with quiet():
                self._library = kind(settings.folder)
                self._library.model.encode("a", prompt="")
        except UnsupportedModelError:
            raise
        except Exception as error:  # malformed files raise any kind
            raise UnsupportedModelError(
                f"{kind.__name__} does not run {settings.folder}: {gist(error)}"
            ) from error
        self.name: str = self._library.name
        self._results = Remembered(self.name, self._run)
        self.prompt_names = list(settings.prompts)
        self.main_calls = (PLAIN,)
        self._tokenizer = Tokenizer.from_str(settings.tokenizer)

    def special_tokens(self) -> list[str]:
        """Return the special tokens as text."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return [token.content for token in added if token.special]

    def takes(self, text: str, call: Call) -> bool:  # noqa: ARG002 - as other originals
        """Whether the original embeds this text without failing: always, even without tokens."""
        return True

    def edge_texts(self) -> list[str]:
        """Return texts that are cut by characters: after a word, inside one, and before any."""
        most = self._max_characters
        if most is None or most <= len(CUT_TEXT):
            return []
        spaces = most - len(CUT_TEXT)
        cut = [CUT_TEXT + " " * more + CUT_TEXT for more in (spaces, spaces - 4)]
        return [*cut, " " * most + CUT_TEXT]

    def embed(self, texts: Sequence[str], call: Call = PLAIN) -> FloatArray:
        """Embed each text with `call`, by default without a prompt. Shape: (n, dimension)."""
        return self._results.of(texts, call)

    def _run(self, text: str, call: Call) -> FloatArray:
        with quiet():
            return call.of(self._library.model, text).astype(np.float32)

    def release(self) -> None:
        """Drop the weights. Only texts that were embedded before can be embedded from now on."""
        self._results.release()
        self._library.release()

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids of a text in this call, after truncation. Shape: (tokens,)."""
        with quiet():
            return self._library.input_ids(text, call)

    def token(self, token_id: int) -> str | None:
        """Return the token with this id; None if there is none."""
        token: str | None = self._tokenizer.id_to_token(token_id)
        return token
