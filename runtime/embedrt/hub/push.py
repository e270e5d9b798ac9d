"""Pushing: uploads a bundle as one commit."""

from __future__ import annotations

from pathlib import Path

from embedrt.bundle.reader import CARD, MANIFEST, Bundle
from embedrt.errors import HubError
from embedrt.hub.client import hub_client
from embedrt.hub.place import Place

BESIDE = {".gitattributes", CARD, "LICENSE"}
"""Files that a repository may hold before the first push."""


def push(
    bundle: str | Path, spelling: str, *, private: bool = False, revision: str | None = None
) -> Place:
    """Push a bundle to a hub as one commit; return its place.

    Parameters
    ----------
    bundle
        The bundle's folder. Every hash is checked first.
    spelling
        ``org/name``. The repository is created if it does not exist.
    private
        Whether to create a private repository.
    revision
        The branch, created if it does not exist; by default the main branch.

    Raises
    ------
    BundleError
        There is no bundle, or it is damaged.
    HubError
        The hub refuses it, or the repository holds other files than a bundle's.
    """
    opened = Bundle.open(bundle, verify="sha256")
    place = Place.parse(spelling, revision)
    with hub_client(f"{bundle} cannot be pushed to {place}") as client:
        api = client.HfApi()
        api.create_repo(place.id, private=private or None, exist_ok=True)
        names = set(api.list_repo_files(place.id))
        if MANIFEST not in names and (other := names - BESIDE):
            raise HubError(
                f"{place.id} holds other files than a bundle's: {', '.join(sorted(other)[:5])}; "
                "push to a repository of the bundle's own"
            )
        if place.revision:
            api.create_branch(place.id, branch=place.revision, exist_ok=True)
        commit = api.create_commit(
            place.id,
            [
                client.CommitOperationAdd(path_in_repo=name, path_or_fileobj=opened.path / name)
                for name in (MANIFEST, *opened.manifest.files)
            ],
            commit_message=f"{opened.manifest.name}, a bundle of embedrt",
            revision=place.revision,
        )
    return place.at(commit.oid)
