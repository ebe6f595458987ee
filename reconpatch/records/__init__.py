"""Records of results: how each was made, why two differ, and whether one follows from what is saved."""
