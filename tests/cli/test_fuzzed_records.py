"""The line contract of records: one for each line, whatever bytes the lines are."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.recipe import DataSection, Recipe, TokenizerSection
from tests.cli.conftest import Call
from tests.decoding.conftest import CORPUS, LONGEST, SECTION, noisy
from tests.decoding.test_fuzz import SHARE, share, wish


@pytest.mark.slow
def test_every_record_gets_one_record_in_order(call: Call, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, TokenizerSection(vocabulary=360))
    recipe = Recipe(model=SECTION, data=DataSection(max_length=LONGEST))
    model_dir.save(tmp_path / "model", noisy(tokenizer, 1), recipe, tokenizer, tokenizer, {})
    rng = random.Random(4)
    rows: list[bytes] = []
    for number, line in enumerate(islice(share("json-lines"), SHARE)):
        asked = wish(line, rng)
        record = {"id": number, **{k: v for k, v in vars(asked).items() if v is not None}}
        raw = json.dumps(record, ensure_ascii=number % 2 == 0).encode("utf-8", "surrogatepass")
        rows.append(rng.randbytes(9).replace(b"\n", b"") if number % 7 == 0 else raw)
    done = call(
        "translate", tmp_path / "model", "--json-lines", "--quiet", "--beam", 2,
        "--max-length-ratio", 0.25, "--search", "max_length_offset=2",
        stdin_bytes=b"\r\n".join(rows) + b"\n",
    )  # fmt: skip
    assert done.code == 0
    written = [json.loads(line) for line in done.out.split("\n")[:-1]]
    assert [record["line"] for record in written] == list(range(1, SHARE + 1))
    for number, record in enumerate(written):
        if number % 7 == 0:
            assert "error" in record
        else:
            assert ("error" in record) != ("translation" in record)
            assert record["id"] == number
