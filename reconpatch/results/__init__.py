"""Tables, figures and the report, from records.

`make_table` writes the table of an experiment: `comparison` computes its cells, `paper` looks up the published
numbers, `tables` turns cells into text. `figures` draws, and `report` puts everything into one page. The pipeline and
the command line use the modules named here; nothing in this room computes scores.
"""

__all__ = ["figures", "make_table", "report", "tables"]
