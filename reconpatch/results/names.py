"""What methods and means are called in tables and figures. Apart from both: an edit of tables redraws no figure."""

METHODS = {"patchcore": "PatchCore", "untrained": "untrained f", "reconpatch": "ReConPatch"}
MEANS = {
    "mean": "mean of {} categories",
    "object": "mean of {} objects",
    "texture": "mean of {} textures",
    "aligned": "mean of {} aligned objects",
    "rotated": "mean of {} rotated objects",
}
