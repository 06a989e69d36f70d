"""Which device a process takes."""

import pytest
import torch

from mtkit.errors import UsageError
from mtkit.training.distributed import World, choose_device


@pytest.mark.parametrize("name", ["meta", "mps", "gpu", "cuda:x", ""])
def test_device_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no such kind of device"):
        choose_device(name)


def test_named_cuda_device_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert World.from_environment("cuda:1").device == torch.device("cuda", 1)
    assert World.from_environment("cuda").device == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert World.from_environment("auto").device == torch.device("cuda", 1)
    assert [device.index for device in chosen] == [1, 0, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="no CUDA device 2 here: there are 2"):
        World.from_environment("cuda")
