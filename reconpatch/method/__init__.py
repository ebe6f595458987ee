"""The method of the paper, as arrays in and arrays out: patch features, f and its training, the memory bank, scores.

Nothing in this room knows of files of settings, of the workflow or of records.
"""
