"""Photographs and masks: layouts of data sets, the index of a category, and from a file to a network's pixels."""
