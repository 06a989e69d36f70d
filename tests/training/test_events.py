"""What events say of themselves."""

import math

from mtkit.training.events import Validated


def test_perplexity_of_a_lost_model_is_infinite() -> None:
    def perplexity(loss: float) -> float:
        return Validated(1, 0.1, loss, {}, {}, False, (), 1.0, 1.0).perplexity

    assert math.isclose(perplexity(math.log(50)), 50)
    assert perplexity(1000.0) == math.inf
    assert math.isinf(perplexity(math.inf))
