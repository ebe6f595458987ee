import re

import numpy as np
from PIL import Image

from reconpatch.report import render


def test_page_is_self_contained_and_escaped(tmp_path) -> None:
    folder = tmp_path / "figures/exp/mine/<nut>"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "qualitative.png")
    (tmp_path / "t.html").write_text("<table><tr><td>99.56</td></tr></table>")
    section = {
        "name": "table x",
        "title": "<script>alert(1)</script>",
        "table": str(tmp_path / "t.html"),
        "figures": [str(folder / "qualitative.png")],
    }
    page = render([section], {"table_btad": "<b>no data</b>"}, {"commit": "abc", "changed": True})
    assert "<script>" not in page and "<b>" not in page and "<nut>" not in page
    assert "99.56" in page and "abc" in page and "with local changes" in page and "table_btad" in page
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]+)"', page))
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', page)
    assert 'name="viewport"' in page
