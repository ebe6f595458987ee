"""The steps of the workflow as functions: what each job reads, computes and writes."""
