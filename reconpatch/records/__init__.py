"""Records of results: how each result was made, why two differ, and whether one follows from what is saved.

Steps of the workflow write records and say of themselves what `provenance` gives; tables, figures and the command line
read them. `record` is light, every job loads it; `verify` loads the whole method.
"""

__all__ = ["compare", "provenance", "record", "verify"]
