"""The token ids that an original model computes with, taken from a run that then ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from embedrt.text.tokenizer import TokenIds


class SeenError(Exception):
    """Ends a run of the model as soon as its token ids are known. Shape: (tokens,)."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__()
        self.ids = np.array(ids, np.int64)


def ids_of_run(first: nn.Module, run: Callable[[], object]) -> TokenIds:
    """Return the ids of the text that `run` gives the model's `first` module. Shape: (tokens,)."""

    def stop(_: object, inputs: tuple[dict[str, torch.Tensor]]) -> None:
        raise SeenError(inputs[0]["input_ids"].reshape(-1).tolist())

    hook = first.register_forward_pre_hook(stop)
    try:
        run()
    except SeenError as seen:
        return seen.ids
    finally:
        hook.remove()
    raise AssertionError("the model runs without its first module")
