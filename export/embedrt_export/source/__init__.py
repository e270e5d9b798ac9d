"""A model's files: where they come from and what they say.

`find` locates a model on disk or on the hub, `recipe` holds what is expected of known models,
`settings` reads a model's configuration and `checkpoint` its weights. No other room opens a file of
a model.
"""
