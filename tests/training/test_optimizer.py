"""Learning rates against their papers' formulas; what is decayed and what is spared."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mtkit.errors import RecipeError
from mtkit.model_dir import weights_of
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import OptimizerSection, ScheduleSection, TransformerSection
from mtkit.training.checkpoint import Checkpoints, Progress, restore_optimizer, state_of
from mtkit.training.muon import orthogonal
from mtkit.training.optimizer import Position, Schedule, make_optimizer


def rates(section: ScheduleSection, updates: range, **schedule: float) -> list[float]:
    made = Schedule(section, peak=schedule.pop("peak", 0.5), width=int(schedule.pop("width", 64)))
    return [made.rate(t, t / 100, t / updates.stop) for t in updates]


def test_noam_is_the_formula_of_vaswani_2017() -> None:
    section = ScheduleSection(kind="noam", warmup=4000)
    for t, rate in enumerate(rates(section, range(1, 20_000), peak=1.0, width=512), 1):
        assert rate == pytest.approx(512**-0.5 * min(t**-0.5, t * 4000**-1.5), rel=1e-12)


def test_inverse_sqrt_rises_linearly_and_falls_with_the_root() -> None:
    section = ScheduleSection(kind="inverse_sqrt", warmup=100)
    for t, rate in enumerate(rates(section, range(1, 1000)), 1):
        expected = 0.5 * (t / 100 if t <= 100 else math.sqrt(100 / t))
        assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_decays_end_at_the_floor(kind: str, middle: float) -> None:
    section = ScheduleSection.model_validate({"kind": kind, "warmup": 0, "floor": 0.1})
    schedule = Schedule(section, 1.0, 1)
    assert schedule.rate(1, 0, 0.0) == pytest.approx(1.0)
    assert schedule.rate(50, 0, 0.5) == pytest.approx(0.1 + 0.9 * middle)
    assert schedule.rate(100, 0, 1.0) == pytest.approx(0.1)


def test_decay_without_an_end_is_an_error_with_a_hint() -> None:
    with pytest.raises(RecipeError, match="needs an end") as caught:
        Schedule(ScheduleSection(kind="linear"), 1.0, 1).rate(1, 0, None)
    assert "training.updates" in (caught.value.hint or "")


def test_step_halves_as_luong_2015() -> None:
    # "after 5 epochs, we begin to halve the learning rate every epoch"
    section = ScheduleSection(kind="step", warmup=0, start=5, every=1, factor=0.5)
    schedule = Schedule(section, 1.0, 1)
    halved = [schedule.rate(1, epochs, None) for epochs in (0, 4.99, 5, 5.99, 6, 7.5)]
    assert halved == [1, 1, 0.5, 0.5, 0.25, 0.125]


def test_step_halves_every_half_epoch_as_sutskever_2014() -> None:
    section = ScheduleSection(kind="step", warmup=0, start=5.0, every=0.5, factor=0.5)
    schedule = Schedule(section, 0.7, 1000)
    rates = [schedule.rate(1, epochs, None) for epochs in (0, 4.99, 5, 5.49, 5.5, 6, 6.5, 7, 7.49)]
    assert rates == pytest.approx([0.7 / 2**n for n in (0, 0, 1, 1, 2, 3, 4, 5, 5)])


def test_plateau_cuts_after_waiting_in_vain() -> None:
    schedule = Schedule(ScheduleSection(kind="plateau", warmup=0, patience=1), 1.0, 1)
    seen = []
    for gained in (True, False, True, False, False, False, False, True):
        schedule.observe(gained)
        seen.append(schedule.rate(9, 0, None))
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_weight_decay_spares_norms_and_biases() -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = make_optimizer(OptimizerSection(kind="adamw", weight_decay=0.1), layer)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] > 0 for p in g["params"]}
    assert decayed == {id(layer[0].weight)}


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "adadelta"])
def test_every_optimizer_lowers_a_loss(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)
    rate = {"sgd": 0.05, "adadelta": 1.0}.get(kind, 0.05)
    section = OptimizerSection.model_validate({"kind": kind, "rate": rate, "epsilon": 1e-6})
    optimizer = make_optimizer(section, layer)
    losses = []
    for _ in range(200):
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_position_counts_updates_and_epochs() -> None:
    position = Position()
    for _ in range(7):
        position = position.after_update(3)
    assert position == Position(update=7, epoch=2, index=1)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_muon_makes_a_matrix_nearly_orthogonal_and_keeps_its_singular_vectors(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = orthogonal(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ found @ right.T  # diagonal, where the singular vectors are the same
    values = turned.diagonal()
    torch.testing.assert_close(turned, values.diag(), atol=1e-9, rtol=0)
    assert ((values > 0.6) & (values < 1.3)).all()


def test_muon_moves_matrices_by_its_rule_and_the_rest_as_adamw_does() -> None:
    torch.manual_seed(1)
    section = TransformerSection(kind="transformer", width=8, heads=2, feed_forward=8)
    model, other = build(section, 11, 11), build(section, 11, 11)
    other.load_state_dict(model.state_dict())
    settings = {"rate": 0.01, "weight_decay": 0.1}
    ours = make_optimizer(OptimizerSection(kind="muon", **settings), model)
    adamw = make_optimizer(OptimizerSection(kind="adamw", **settings), other)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        mine.grad = torch.randn_like(mine)
        its.grad = mine.grad.clone()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    ours.step()
    adamw.step()
    after = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embedding" not in name:
            # The first mean is 0.05 of the gradient; orthogonal() does not regard the size.
            expected = before[name] * (1 - 0.01 * 0.1)
            expected -= 0.01 * 0.2 * max(parameter.shape) ** 0.5 * orthogonal(gradients[name])
            torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-4)
        else:
            assert torch.equal(parameter, after[name]), name


def test_muon_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    section = TransformerSection(kind="transformer", width=8, heads=2, feed_forward=8)

    def start() -> tuple[Seq2Seq, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = build(section, 11, 11)
        return model, make_optimizer(OptimizerSection(kind="muon"), model)

    def update(model: Seq2Seq, optimizer: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()

    whole, optimizer = start()
    update(whole, optimizer, 1)
    path = Checkpoints(tmp_path, 1).save(weights_of(whole), state_of(optimizer), Progress())
    resumed, again = start()
    update(resumed, again, 1)
    restore_optimizer(again, path)
    update(whole, optimizer, 2)
    update(resumed, again, 2)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
