"""The hub's client, imported on demand, without progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from embedrt.errors import EmbedrtError, HubError, MissingExtraError


@contextmanager
def hub_client(doing: str) -> Iterator[ModuleType]:
    """Provide ``huggingface_hub``, without progress bars.

    Parameters
    ----------
    doing
        Start of the error message: ``"hub:org/name cannot be pulled"``.

    Raises
    ------
    MissingExtraError
        The client is not installed.
    HubError
        The client raises an error: no connection, no such repository, no permission, a full disk.
    """
    try:
        # Imported here because it is slow to import.
        import huggingface_hub  # noqa: PLC0415
        from huggingface_hub import constants, errors  # noqa: F401, PLC0415
        from huggingface_hub.utils.tqdm import (  # noqa: PLC0415
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"a hub's bundles need {error.name}: pip install 'embedrt[hub]'"
        ) from error
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield huggingface_hub
    except EmbedrtError:
        raise
    except Exception as error:  # of many kinds: httpx's, the system's, the client's own
        raise HubError(f"{doing} ({_told(error)}). {_remedy(error)}") from error
    finally:
        if shown:
            enable_progress_bars()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _remedy(error: Exception) -> str:
    name = type(error).__name__
    if name in ("RevisionNotFoundError", "RepositoryNotFoundError", "GatedRepoError"):
        return "Check the spelling; for private or gated repositories, set HF_TOKEN"
    if isinstance(error, OSError) and error.errno is not None:
        return "Make room, or set HF_HOME to a folder that can be written to"
    if "HubHTTPError" in name:
        return "Check HF_TOKEN and its permissions"
    return "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or copy the bundle's folder"
