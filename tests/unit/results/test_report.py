import re

import numpy as np
from PIL import Image

from reconpatch.results.report import render


def test_page_is_self_contained_and_escaped(tmp_path) -> None:
    folder = tmp_path / "figures/exp/mine/<nut>"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "qualitative.png")
    (tmp_path / "t.html").write_text("<table><tr><td>99.56</td></tr></table>")
    section = {
        "name": "table x",
        "title": "<script>alert(1)</script>",
        "table": "t.html",
        "figures": ["figures/exp/mine/<nut>/qualitative.png"],
    }
    left_out = {"<b>no data</b>": ["table_btad", "figure_umap"]}
    page = render(tmp_path, [section], left_out, {"commit": "abc", "changed": True}, ["exp: runs/<i>"])
    assert "<script>" not in page and "<b>" not in page and "<nut>" not in page and "<i>" not in page
    assert page.count("&lt;b&gt;no data&lt;/b&gt;") == 1 and "table_btad, figure_umap" in page  # each reason once
    assert "Planned results are missing" in page and "exp: runs/&lt;i&gt;" in page
    assert "99.56" in page and "abc" in page and "with local changes" in page and "table_btad" in page
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]+)"', page))
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', page)
    assert 'name="viewport"' in page


def test_page_of_all_that_was_planned_misses_nothing(tmp_path) -> None:
    (tmp_path / "t.html").write_text("<table></table>")
    section = {"name": "a", "title": "A", "table": "t.html", "figures": []}
    page = render(tmp_path, [section], {}, {"commit": None, "changed": None})
    assert "missing" not in page and "Left out" not in page and "unknown" in page
