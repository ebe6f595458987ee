"""Tables, figures and the report, from records.

`make_table` writes the tables of an experiment: `comparison` computes cells, `paper` looks up the published numbers,
`selection` adds the oracle, `summary` counts wins over categories, `defects` looks at each type of defect, `statistics`
tests, `tables` turns all of it into text, `paper_view` into the form of the paper's tables, `formats` writes both.
`figures` draws, `thumbnails` holds small pictures of test images, and `report` puts everything into one page, which
`overview` sums up; `page` is what this page shares with that of `reconpatch evaluate`. The pipeline, the detector and
the command line use the modules named here; nothing in this room computes scores.
"""

__all__ = ["figures", "make_table", "page", "report", "tables", "thumbnails"]
