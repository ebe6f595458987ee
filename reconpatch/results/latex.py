"""Text for LaTeX. Apart from the formats of tables: an edit of these redraws no figure."""

import re

JOINTS = re.compile(r"(\\_|\.(?=[a-z]))")  # where a name as resnet50.tv_in1k may go on in the next line


def escaped(text: str) -> str:
    """Any text -> the same for LaTeX: its special characters as commands. Letters that are not Latin are kept."""
    from pylatexenc.latexencode import UnicodeToLatexEncoder

    encoder = UnicodeToLatexEncoder(unknown_char_policy="keep", unknown_char_warning=False)
    return encoder.unicode_to_latex(text) if text else ""


def breakable(latex: str) -> str:
    """LaTeX -> the same, with places at which long names may be broken."""
    return JOINTS.sub(r"\1\\allowbreak{}", latex)
