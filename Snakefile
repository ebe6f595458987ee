# The workflow proper; this file lets `snakemake` be called from the root of the repository.
include: "workflow/Snakefile"
