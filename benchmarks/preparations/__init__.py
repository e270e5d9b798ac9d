"""The artifacts that contenders run (exports, quantized copies, conversions), each made once.

A module names its `ENVIRONMENT` and its `ARTIFACTS`, each with the artifact that it is made from;
``OF_THIS_CHECKOUT = True`` says that embedrt's own code makes them. As in `contenders`, the harness
reads these constants without importing the module. ``prepare(artifact, model, needed, output)``
makes an artifact in the empty folder `output`, from the artifact in the folder `needed`.
"""
