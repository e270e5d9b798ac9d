"""How fast, how big and how right: embedrt beside its peers. See README.md beside this."""
