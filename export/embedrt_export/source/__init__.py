"""Locates and reads a model's files.

`find` locates a model in a folder, a package or a repository on the `hub`; `needed` lists the files
to download. `recipe` holds the expected properties of known models. `settings` reads a model's
settings and its head (`modules`, `transformer`, `head`), each key checked against the tables in
`keys`; `config` reads the encoder's config, `checkpoint` its weights and `card` its license.
`other_models` names the kinds of model that are refused. No other package opens a model's files.
"""

from embedrt_export.source.find import Source as Source
from embedrt_export.source.find import find_source as find_source
from embedrt_export.source.needed import needed_files as needed_files
