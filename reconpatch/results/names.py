"""What methods are called in tables and figures."""

METHODS = {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}
