"""What methods are called in tables and figures. Apart from both, so that an edit of tables redraws no figure."""

METHODS = {"patchcore": "PatchCore", "untrained": "untrained f", "reconpatch": "ReConPatch"}
