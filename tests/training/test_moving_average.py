"""The moving average of the weights against its formula."""

import pytest
import torch

from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import TransformerSection
from mtkit.training.moving_average import MovingAverage


def tiny() -> Seq2Seq:
    torch.manual_seed(1)
    return build(TransformerSection(kind="transformer", width=4, heads=1, feed_forward=4), 9, 9)


def test_moving_average_is_a_weighted_sum_of_all_weights() -> None:
    model = tiny().double()
    average = MovingAverage(model, 0.5)
    decays = [2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 9 / 18, 0.5, 0.5]
    expected = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for update, decay in enumerate(decays, 1):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        average.follow(update)
        for name, weight in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * weight.detach()
    for name, mean in average.mean.items():
        torch.testing.assert_close(mean, expected[name], rtol=1e-12, atol=1e-12)


def test_moving_average_stands_in_for_the_weights_and_leaves_them() -> None:
    model = tiny()
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
    mean = {name: tensor.clone() for name, tensor in average.mean.items()}

    def look_and_fail() -> None:
        with average.in_place():
            for name, weight in model.named_parameters():
                assert torch.equal(weight, mean[name])
            raise KeyError

    with pytest.raises(KeyError):
        look_and_fail()
    assert all(bool((weight == 1).all()) for weight in model.parameters())
    assert all(torch.equal(average.mean[name], mean[name]) for name in mean)
