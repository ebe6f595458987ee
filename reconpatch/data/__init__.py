"""Images and masks: from the folders of a data set to the pixels a network sees.

`layouts` says which file is an image, which its mask, and which category both belong to; `index` opens every file once
and checks it; `manifest` keeps what the index found. `decoding` turns a file into pixels, `augmentation` and `images`
into the square a network sees. `pictures` finds the facts of a decoded image or mask, and `remarks` says what is odd in
them, and `saturation` how much of a defect must be found. `catalogue` says what the published data sets contain,
`sources` where they are, `natures` how their categories are grouped; `published` says what tells a copy from them,
`download` fetches them, `miniatures` draws small ones in the layout of each, and `sample` one with real photographs.

Every room above may use these modules. They import nothing of the package but `rng`, `files` and `errors`.
"""

__all__ = [
    "augmentation",
    "catalogue",
    "decoding",
    "download",
    "images",
    "index",
    "layouts",
    "manifest",
    "miniatures",
    "natures",
    "pictures",
    "published",
    "remarks",
    "sample",
    "saturation",
    "sources",
]
