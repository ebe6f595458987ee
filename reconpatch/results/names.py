"""What methods and means are called in tables and figures. Apart from both: an edit of tables redraws no figure."""

ALL = "all data sets"  # stands for the data set of a row over categories of several
THE_PAPER = "paper"  # the source of its own numbers, in files
KIND = "kind"  # label of the kind of anomaly, where a data set measures kinds apart
MEAN_OF_KINDS = "mean"  # its value where both are averaged, as the authors do
METHODS = {"patchcore": "PatchCore", "untrained": "untrained f", "reconpatch": "ReConPatch"}
MEANS = {
    "mean": "mean of {} categories",
    "object": "mean of {} objects",
    "texture": "mean of {} textures",
    "aligned": "mean of {} aligned objects",
    "rotated": "mean of {} rotated objects",
    "several": "mean of {} with several objects",
}
GROUP_NAMES = {
    "aligned": "aligned objects",
    "rotated": "rotated objects",
    "texture": "textures",
    "several": "several objects",
    "logical": "logical anomalies",
    "mean": "all",
}


def category_name(category: str, categories: int, dataset: str) -> str:
    """Name of a category or of a mean, number of categories, data set -> what tables and figures print."""
    if dataset == ALL:
        return f"{GROUP_NAMES[category]} ({categories})"
    if categories > 1:  # else a category may be called "mean"
        return MEANS.get(category, category).format(categories)
    return category.replace("_", " ")
