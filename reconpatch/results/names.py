"""What metrics and methods are called in tables and figures."""

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro_30": "AUPRO (30 %)"}
METHODS = {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}
