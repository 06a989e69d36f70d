"""From the model section of a recipe to the model."""

from typing import assert_never

from mtkit.models.bahdanau import Bahdanau
from mtkit.models.recurrent import Recurrent
from mtkit.models.seq2seq import Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.models.window import Window
from mtkit.recipe import ModelSection, RecurrentSection, TransformerSection


def build(section: ModelSection, source_size: int, target_size: int) -> Seq2Seq:
    """The model that a section describes, for vocabularies of these sizes.

    Weights are drawn from torch's global generator. Raises RecipeError where the section asks for
    what does not fit together.
    """
    match section:
        case RecurrentSection(decoder="bahdanau"):
            return Bahdanau(section, source_size, target_size)
        case RecurrentSection(decoder="window"):
            return Window(section, source_size, target_size)
        case RecurrentSection():
            return Recurrent(section, source_size, target_size)
        case TransformerSection():
            return Transformer(section, source_size, target_size)
        case _:
            assert_never(section)
