"""Drawing of figures; values come from records."""
