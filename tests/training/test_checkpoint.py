"""Checkpoints survive a process that is killed at any moment."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from mtkit.errors import ModelError, TrainingError
from mtkit.training.checkpoint import Checkpoints, Progress, check, read_progress, write_text
from mtkit.training.optimizer import Position


def save(checkpoints: Checkpoints, update: int, *, validated: bool = True, best: int = 0) -> Path:
    weight = torch.nn.Parameter(torch.full((2, 3), float(update)))
    progress = Progress(Position(update), validated=validated, best_update=best)
    return checkpoints.save({"w": weight}, {}, progress)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_and_the_last_validated_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for update in range(1, 7):
        save(checkpoints, update, validated=update % 2 == 0)
    assert names(checkpoints.folder) == ["000000004", "000000006"]
    save(checkpoints, 7, validated=False)
    assert names(checkpoints.folder) == ["000000004", "000000006", "000000007"]
    assert [path.name for path in checkpoints.averaged(2)] == ["000000004", "000000006"]


@pytest.mark.parametrize(
    ("best", "after", "expected"),
    [(4, 9, [3, 4, 5]), (4, 4, [2, 3, 4]), (4, 5, [3, 4, 5]), (1, 9, [1, 2, 3])],
)
def test_checkpoints_around_the_best_are_kept(
    tmp_path: Path, best: int, after: int, expected: list[int]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3, around=3)
    for update in range(1, after + 1):
        save(checkpoints, update, best=min(update, best))
    assert [int(path.name) for path in checkpoints.around_best(3, best)] == expected
    newest = {*range(max(after - 2, 1), after + 1)}
    assert {int(name) for name in names(tmp_path)} == newest | set(expected)


def test_half_removed_checkpoint_does_not_stop_the_next(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    (save(checkpoints, 1) / "progress.json").unlink()
    save(checkpoints, 2)
    save(checkpoints, 3)
    assert [path.name for path in checkpoints.averaged(3)] == ["000000002", "000000003"]


def test_checkpoint_before_a_damaged_one_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    (save(checkpoints, 9) / "progress.json").write_text("torn")
    written = save(checkpoints, 5, validated=False)
    assert (written / "progress.json").exists()


def test_leavings_of_a_killed_process_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for name in (".000000001.part", ".000000002.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(b"torn")
    assert checkpoints.all() == []
    save(checkpoints, 3)
    assert names(tmp_path) == ["000000003"]


def test_checkpoint_at_the_same_update_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    path = save(checkpoints, 3, validated=False)
    (path / "weights.safetensors").write_bytes(b"torn")
    assert save(checkpoints, 3) == path
    assert load((path / "weights.safetensors").read_bytes())["w"][0, 0] == 3
    assert names(tmp_path) == ["000000003"]


def test_checkpoint_is_told_afterwards_how_it_was_judged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    save(checkpoints, 1)
    path = save(checkpoints, 2, validated=False)
    assert names(checkpoints.folder) == ["000000001", "000000002"]
    before = (path / "weights.safetensors").stat().st_ino
    checkpoints.renew(Progress(Position(2), validated=True, best_scores={"loss": 1.5}))
    check(path)
    assert read_progress(path).best_scores == {"loss": 1.5}
    assert (path / "weights.safetensors").stat().st_ino == before
    assert names(checkpoints.folder) == ["000000002"]


def test_read_only_disk_keeps_the_checkpoint_that_was_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    path = save(checkpoints, 1)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError(errno.EROFS, "Read-only file system")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(TrainingError, match="Read-only file system"):
        save(checkpoints, 1)
    check(path)
    assert names(checkpoints.folder) == ["000000001"]


def test_checkpoint_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = save(Checkpoints(tmp_path, keep=1), 1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def test_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)
    (tmp_path / ".000000002.part").write_text("in the way")
    with pytest.raises(TrainingError, match="000000002: the checkpoint cannot be written"):
        save(checkpoints, 2)
    assert [path.name for path in checkpoints.all()] == ["000000001"]


def test_text_is_replaced_by_a_rename(tmp_path: Path) -> None:
    write_text("one", tmp_path / "a.json")
    with (tmp_path / "a.json").open() as held:
        write_text("two", tmp_path / "a.json")
        assert held.read() == "one"
    assert (tmp_path / "a.json").read_text() == "two"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["weights.safetensors", "progress.json"])
def test_one_altered_byte_is_recognised(tmp_path: Path, name: str) -> None:
    path = save(Checkpoints(tmp_path, keep=1), 1)
    check(path)
    content = bytearray((path / name).read_bytes())
    # In the file of weights a value, in the text a digit of the seconds.
    place = content.index(b'"seconds": 0') + 11 if name.endswith("json") else len(content) - 1
    content[place] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"torn or altered|damaged"):
        check(path)


def test_checkpoint_of_before_there_were_digests_is_read(tmp_path: Path) -> None:
    path = save(Checkpoints(tmp_path, keep=1), 7)
    table = json.loads((path / "progress.json").read_text())
    del table["digest"], table["files"]
    (path / "progress.json").write_text(json.dumps(table))
    check(path)
    assert read_progress(path).position == Position(7)


def test_file_size_limit_leaves_the_checkpoint_before_and_no_rest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(TrainingError, match="cannot be written"):
            save(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["000000001"]
    check(tmp_path / "000000001")
