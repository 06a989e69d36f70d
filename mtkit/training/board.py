"""The run's events as TensorBoard draws them (extra `tensorboard`)."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from mtkit.errors import UsageError
from mtkit.training.events import Event, Finished, Progressed, Started, Validated

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes curves to RUN/tensorboard; a run that goes on writes on where it had been saved."""

    def __init__(self) -> None:
        """Raises UsageError where TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            raise UsageError(
                "training.tensorboard = true needs TensorBoard, which is not installed",
                "pip install 'mtkit[tensorboard]', or --set training.tensorboard=false",
            )
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                from torch.utils.tensorboard import SummaryWriter

                # What was written after the checkpoint that the run goes on from is drawn no more.
                again = event.resumed_at
                self._writer = SummaryWriter(
                    event.run / "tensorboard", purge_step=None if again is None else again + 1
                )
            case Progressed():
                values = {
                    "loss": event.loss,
                    "rate": event.rate,
                    "gradient_norm": event.gradient_norm,
                    "tokens_per_second": event.tokens_per_second,
                }
                self._add("train", values, event.update)
            case Validated():
                self._add("valid", {"loss": event.loss, **event.scores}, event.update)
            case Finished() if self._writer is not None:
                self._writer.close()

    def _add(self, part: str, values: dict[str, float], update: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{part}/{name}", value, update)
