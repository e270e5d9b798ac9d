"""A model's files: where they come from and what they say.

`find` locates a model on disk or on the hub, `recipe` holds what is expected of known models.
`settings` reads its settings and its head (`modules`, `transformer`, `head`), each key checked
against the tables in `keys`; `config` reads the encoder's config and `checkpoint` its weights;
`other_models` names what is no dense embedding model. No other room opens a file of a model.
"""
