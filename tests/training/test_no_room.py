"""Where nothing can be written any more, the last good checkpoint stays, and training goes on."""

from pathlib import Path

import pytest
from test_run import RECIPE, same_bits, weights

from mtkit import MTKitError, Recipe, TrainingError, Translator, train
from mtkit.training.checkpoint import check
from mtkit.training.events import Event, Started, Validated
from tests.conftest import Place


# A disk does not become read-only while the run's lock is open.
@pytest.mark.parametrize("place", ["full disk", "file limit"], indirect=True)
@pytest.mark.parametrize("change", ["validation.every=8", "training.ema=0.9"])
def test_run_without_room_ends_in_a_sentence_and_can_go_on(
    tmp_path: Path, place: Place, change: str
) -> None:
    recipe = Recipe.parse(RECIPE).changed([change])
    whole = train(recipe, tmp_path / "whole")
    run = place.folder / "run"

    def fill(event: Event) -> None:
        if isinstance(event, Validated) and event.update == 8:
            place.close()

    with pytest.raises(TrainingError, match=r"cannot be written.*\(") as caught:
        train(recipe, run, listeners=[fill])
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert str(run) in caught.value.message
    assert "run the same command again" in (caught.value.hint or "")
    place.open()

    (kept,) = sorted(path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    assert kept.name == "000000008"
    check(kept)
    assert len(Translator.load(run).translate(["고양이"])) == 1
    events: list[Event] = []
    train(recipe, run, listeners=[events.append])
    assert [event.resumed_at for event in events if isinstance(event, Started)] == [8]
    assert same_bits(weights(whole), weights(run))


def test_run_folder_without_room_is_refused_at_once(place: Place) -> None:
    place.close()
    with pytest.raises(MTKitError, match="cannot be written") as caught:
        train(Recipe.parse(RECIPE), place.folder / "run")
    assert str(place.folder) in str(caught.value)
