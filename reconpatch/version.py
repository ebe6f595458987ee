"""The version of the package, for people, records and models."""

VERSION = "0.1.0"
