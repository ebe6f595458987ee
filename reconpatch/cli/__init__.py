"""The `reconpatch` command. `main` is the entry point. Other rooms import nothing from here."""

__all__ = ["main", "replication"]
