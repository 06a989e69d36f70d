"""Model directories: saved, loaded, averaged."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import ModelError, UsageError
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe, TokenizerSection

LINES = ["Der Hund sieht das Haus.", "The dog sees the house.", "Wo ist er? Im Garten!"] * 5

SMALL = ["model.width=8", "model.dropout=0"]
TRANSFORMER = [
    "model.heads=2",
    "model.feed_forward=16",
    "model.encoder_layers=1",
    "model.decoder_layers=2",
]
RECURRENT = ["model.kind=recurrent", "model.embedding=8"]
KINDS = {
    "tied-everywhere": [*SMALL, *TRANSFORMER],
    "tied-target": [*SMALL, *TRANSFORMER, "model.tied_embeddings=target", "model.norm=post"],
    "untied": [*SMALL, *TRANSFORMER, "model.tied_embeddings=none", "model.positions=false"],
    "lstm": [*RECURRENT, *SMALL],
    "gru-untied": [*RECURRENT, *SMALL, "model.cell=gru", "model.tied_embeddings=false"],
    "rnn-context": [*RECURRENT, *SMALL, "model.cell=rnn", "model.memory=context"],
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(LINES, TokenizerSection(kind="char", vocabulary=100))


@pytest.fixture(scope="module")
def other_tokenizer() -> Tokenizer:
    return Tokenizer.train(LINES, TokenizerSection(kind="word", vocabulary=12))


def recipe_of(kind: str) -> Recipe:
    changes = KINDS[kind]
    if changes[0].startswith("model.kind"):
        return Recipe().changed(changes[:1]).changed(changes[1:])
    return Recipe().changed(changes)


def make(kind: str, tokenizer: Tokenizer, seed: int = 1) -> tuple[Seq2Seq, Recipe]:
    torch.manual_seed(seed)
    recipe = recipe_of(kind)
    return build(recipe.model, tokenizer.size, tokenizer.size).eval(), recipe


def logits(model: Seq2Seq) -> Tensor:
    source = torch.tensor([[5, 6, 7, 3], [8, 9, 3, 0]])
    inputs = torch.tensor([[2, 6, 7], [2, 9, 9]])
    with torch.no_grad():
        result: Tensor = model(source, inputs)
    return result


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    model, recipe = make("tied-everywhere", tokenizer)
    model_dir.save(tmp_path / "model", model, recipe, tokenizer, tokenizer, {"title": "a test"})
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_model_is_the_saved_one(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, recipe = make(kind, tokenizer)
    model_dir.save(tmp_path / "model", model, recipe, tokenizer, tokenizer, {})
    random_before = torch.get_rng_state()
    loaded = model_dir.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), random_before), "loading draws no random numbers"
    assert not loaded.model.training
    assert loaded.recipe == recipe
    assert loaded.path == tmp_path / "model"
    assert torch.equal(logits(loaded.model), logits(model))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
def test_shared_parameters_are_saved_once_and_shared_again(
    kind: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, recipe = make(kind, tokenizer)
    model_dir.save(tmp_path / "model", model, recipe, tokenizer, tokenizer, {})
    parameters = list(model.parameters())
    stored = load_file(tmp_path / "model" / "weights.safetensors")
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in parameters)
    loaded = model_dir.load(tmp_path / "model").model
    assert len(list(loaded.parameters())) == len(parameters)
    groups = [{}, {}]  # type: list[dict[int, list[str]]]
    for one, group in zip((model, loaded), groups, strict=True):
        for name, parameter in one.named_parameters(remove_duplicate=False):
            group.setdefault(id(parameter), []).append(name)
    assert sorted(groups[0].values()) == sorted(groups[1].values())


def test_loaded_model_can_be_trained_on_without_touching_the_file(saved: Path) -> None:
    before = (saved / "weights.safetensors").read_bytes()
    model = model_dir.load(saved).model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model(torch.tensor([[5, 6, 3]]), torch.tensor([[2, 6]])).logsumexp(-1).sum().backward()
    optimizer.step()
    assert not torch.equal(logits(model.eval()), logits(model_dir.load(saved).model))
    assert (saved / "weights.safetensors").read_bytes() == before


def test_joint_tokenizer_is_one_file_and_one_object(saved: Path, tokenizer: Tokenizer) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [
        "card.json",
        "joint.spm",
        "recipe.toml",
        "weights.safetensors",
    ]
    loaded = model_dir.load(saved)
    assert loaded.source_tokenizer is loaded.target_tokenizer
    assert loaded.source_tokenizer.fingerprint == tokenizer.fingerprint


def test_two_tokenizers_keep_their_sides(
    tokenizer: Tokenizer, other_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    recipe = recipe_of("untied")
    model = build(recipe.model, tokenizer.size, other_tokenizer.size)
    model_dir.save(tmp_path, model, recipe, tokenizer, other_tokenizer, {})
    loaded = model_dir.load(tmp_path)
    assert loaded.source_tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.target_tokenizer.fingerprint == other_tokenizer.fingerprint
    assert loaded.card["vocabulary"] == {"source": tokenizer.size, "target": other_tokenizer.size}
    # Saved again with one tokenizer, the two are gone.
    model, recipe = make("untied", tokenizer)
    model_dir.save(tmp_path, model, recipe, tokenizer, tokenizer, {})
    assert not (tmp_path / "source.spm").exists()
    assert model_dir.load(tmp_path).target_tokenizer.fingerprint == tokenizer.fingerprint


def test_card_says_what_the_model_is(saved: Path, tokenizer: Tokenizer) -> None:
    card = model_dir.load(saved).card
    assert card["title"] == "a test"
    assert card["format"] == 1
    assert card["torch"] == torch.__version__
    assert card["parameters"] == sum(p.numel() for p in model_dir.load(saved).model.parameters())
    assert card["tokenizers"] == {"joint.spm": tokenizer.fingerprint}


def test_run_folder_is_a_model_directory_and_keeps_its_own_files(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(ModelError, match="no model yet"):
        model_dir.load(tmp_path)
    for seed in (1, 2):
        model, recipe = make("lstm", tokenizer, seed)
        model_dir.save(tmp_path, model, recipe, tokenizer, tokenizer, {})
        assert torch.equal(logits(model_dir.load(tmp_path).model), logits(model))
    assert (tmp_path / "checkpoints").is_dir()
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_failed_saving_leaves_the_old_model(saved: Path, tokenizer: Tokenizer) -> None:
    old = logits(model_dir.load(saved).model)
    model, recipe = make("tied-everywhere", tokenizer, seed=2)
    with pytest.raises(TypeError):
        model_dir.save(saved, model, recipe, tokenizer, tokenizer, {"path": object()})

    class Full(Tokenizer):
        def save(self, path: Path) -> None:
            raise OSError(28, "No space left on device")

    full = Full(tokenizer.to_bytes())
    with pytest.raises(ModelError, match="space"):
        model_dir.save(saved, model, recipe, full, full, {})
    assert not [path for path in saved.iterdir() if path.name.startswith(".")]
    assert torch.equal(logits(model_dir.load(saved).model), old)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model directory"):
        model_dir.load(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.toml", "card.json", "joint.spm"])
def test_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing") as raised:
        model_dir.load(saved)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.toml", "card.json", "joint.spm"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_damaged_file_is_named(saved: Path, name: str, share: float) -> None:
    path = saved / name
    content = path.read_bytes()
    if name == "recipe.toml":  # half a recipe is a recipe; half a line is not
        content = content[: content.index(b"[data]") + 3] if share else b"\xff"
    else:
        content = content[: int(share * len(content))]
    path.write_bytes(content)
    with pytest.raises(ModelError, match=name) as raised:
        model_dir.load(saved)
    assert "\n" not in raised.value.message


def test_newer_format_asks_for_an_upgrade(saved: Path) -> None:
    card = json.loads((saved / "card.json").read_text())
    card |= {"format": 2, "mtkit": "9.9"}
    (saved / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"format 2, written by mtkit 9\.9") as raised:
        model_dir.load(saved)
    assert "git pull && pip install -e ." in (raised.value.hint or "")


@pytest.mark.parametrize(("written", "newer"), [("9.9", True), ("0.2", True), ("0.1.0", False)])
def test_recipe_of_a_newer_version_is_not_to_be_edited(
    saved: Path, monkeypatch: pytest.MonkeyPatch, written: str, newer: bool
) -> None:
    monkeypatch.setattr(model_dir, "_version", lambda: "0.1.0")
    card = json.loads((saved / "card.json").read_text()) | {"mtkit": written}
    (saved / "card.json").write_text(json.dumps(card))
    text = (saved / "recipe.toml").read_text()
    (saved / "recipe.toml").write_text(text.replace("[model]", "[model]\nheadz = 3"))
    with pytest.raises(ModelError, match=r"unknown key model\.headz") as raised:
        model_dir.load(saved)
    assert (f"written by mtkit {written}, and this is mtkit 0.1.0" in str(raised.value)) == newer
    assert ("did you mean" in (raised.value.hint or "")) != newer
    assert ("git pull" in (raised.value.hint or "")) == newer


def test_tokenizer_of_another_model_is_an_error(saved: Path, other_tokenizer: Tokenizer) -> None:
    other_tokenizer.save(saved / "joint.spm")
    with pytest.raises(ModelError, match=r"joint\.spm has 12 pieces, but is not the tokenizer"):
        model_dir.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.width=16", r"is .*8, but recipe\.toml describes .*16"),
        ("model.decoder_layers=3", r"lacks decoder\.2"),
        ("model.decoder_layers=1", r"has decoder\.1.*knows nothing"),
    ],
)
def test_weights_that_do_not_fit_the_recipe_are_an_error(
    saved: Path, change: str, message: str
) -> None:
    recipe = Recipe.load(saved / "recipe.toml", [change])
    (saved / "recipe.toml").write_text(recipe.to_toml())
    with pytest.raises(ModelError, match=message) as raised:
        model_dir.load(saved)
    assert "same run" in (raised.value.hint or "")


def test_unknown_device_is_an_error(saved: Path) -> None:
    for device in ("toaster", "cuda:99"):
        with pytest.raises(UsageError, match=device):
            model_dir.load(saved, device=device)
    assert model_dir.load(saved, device="auto").model is not None


def test_moved_directory_loads(saved: Path, tmp_path: Path) -> None:
    wanted = logits(model_dir.load(saved).model)
    moved = shutil.move(saved, tmp_path / "moved")
    assert torch.equal(logits(model_dir.load(Path(moved)).model), wanted)


def test_average_is_the_mean_of_the_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    models = []
    for seed in (1, 2, 3):
        model, recipe = make("tied-target", tokenizer, seed)
        model_dir.save(tmp_path / str(seed), model, recipe, tokenizer, tokenizer, {})
        models.append(model)
    paths = [tmp_path / "1", tmp_path / "2" / "weights.safetensors", tmp_path / "3"]
    mean = model_dir.average(paths)
    for name, tensor in mean.items():
        wanted = sum(model.state_dict()[name].double() for model in models) / 3
        assert isinstance(wanted, Tensor)
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-6, atol=1e-7)
        assert tensor.dtype == torch.float32
    again = model_dir.average([tmp_path / "2"])
    stored = load_file(tmp_path / "2" / "weights.safetensors")
    assert all(torch.equal(again[name], stored[name]) for name in stored)
    model_dir.fill(models[0], mean, tmp_path)
    assert torch.equal(models[0].state_dict()["output.weight"], mean["target_embedding.weight"])


def test_average_of_different_models_is_an_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for kind in ("tied-target", "lstm"):
        model, recipe = make(kind, tokenizer)
        model_dir.save(tmp_path / kind, model, recipe, tokenizer, tokenizer, {})
    with pytest.raises(ModelError, match="different models"):
        model_dir.average([tmp_path / "tied-target", tmp_path / "lstm"])
    with pytest.raises(ModelError, match="nowhere"):
        model_dir.average([tmp_path / "lstm", tmp_path / "nowhere"])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"half")
    with pytest.raises(ModelError, match=r"damaged\.safetensors: cannot be read"):
        model_dir.average([tmp_path / "lstm", damaged])
    with pytest.raises(UsageError):
        model_dir.average([])


def test_weights_of_another_precision_are_taken_as_the_models(saved: Path) -> None:
    path = saved / "weights.safetensors"
    half = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(half, path)
    model = model_dir.load(saved).model
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert logits(model).isfinite().all()


def test_tokenizer_file_that_is_empty_is_damaged(saved: Path) -> None:
    (saved / "joint.spm").write_bytes(b"")
    with pytest.raises(ModelError, match=r"joint\.spm is not a SentencePiece model"):
        model_dir.load(saved)


def test_missing_card_beside_weights_is_named(saved: Path) -> None:
    (saved / "log.jsonl").touch()
    (saved / "card.json").unlink()
    with pytest.raises(ModelError, match=r"card\.json is missing"):
        model_dir.load(saved)


def test_weights_are_readable_as_the_umask_says(saved: Path) -> None:
    mode = (saved / "card.json").stat().st_mode
    assert (saved / "weights.safetensors").stat().st_mode == mode


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_device_that_is_not_there_is_refused(saved: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device}: "):
        model_dir.load(saved, device=device)
