"""The `reconpatch` command."""
