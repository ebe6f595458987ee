"""Fitted detectors that the tests of this folder share."""

from products import blind, good, model, padded, saved  # noqa: F401
