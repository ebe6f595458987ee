"""What is to be run: parameters of a run, configuration files, experiments, the plan, and what its jobs will need.

`run` has every parameter with its default, meaning and source. `config` reads the user's files, `rows` expands an
experiment into the rows of its table, and `plan` makes the runs of all experiments. `stages` is the table of the
workflow's stages. `costs` and `resources` predict what their jobs need, from what `networks` knows of backbones.
`checks` refuses what cannot work, `outputs` names what is made, `generated` writes the files that follow from the
models. The other modules serve this room only.
"""

__all__ = [
    "checks",
    "config",
    "costs",
    "generated",
    "networks",
    "outputs",
    "place",
    "plan",
    "resources",
    "rows",
    "run",
    "stages",
    "table_settings",
    "value_types",
]
