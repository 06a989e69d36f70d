"""Enter a ladder into the README: its table of claims, and its picture as recipes/ladder.svg.

    python tests/bench/enter_ladder.py runs/ladder

The table stands between the marks `<!-- ladder -->` and `<!-- /ladder -->`, the picture before it.
What stood between them is replaced.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = "recipes/ladder.svg"


def main(folder: Path) -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    table = (folder / "claims.md").read_text(encoding="utf-8")
    shown = f"![BLEU by source length of every rung]({PICTURE})\n\n{table}"
    entered, count = re.subn(
        r"(<!-- ladder -->\n).*?(<!-- /ladder -->)",
        lambda marks: f"{marks[1]}{shown}{marks[2]}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit("README.md: there is no <!-- ladder --> with its <!-- /ladder -->")
    shutil.copyfile(folder / "lengths.svg", ROOT / PICTURE)
    readme.write_text(entered, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
