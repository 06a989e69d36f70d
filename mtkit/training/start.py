"""Training that starts from a model that is there: its weights, its tokenizers, other corpora."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Self

from torch import Tensor

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import ModelError
from mtkit.recipe import ModelSection, Recipe, TokenizerSection


@dataclass(frozen=True)
class Parent:
    """The model that a run starts from."""

    path: Path
    model: ModelSection
    section: TokenizerSection
    tokenizers: tuple[Tokenizer, Tokenizer]
    weights: dict[str, Tensor]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model directory. Raises ModelError."""
        loaded = model_dir.load(path)
        return cls(
            path,
            loaded.recipe.model,
            loaded.recipe.tokenizer,
            (loaded.source_tokenizer, loaded.target_tokenizer),
            model_dir.weights_of(loaded.model),
        )

    def adopt(self, recipe: Recipe) -> Recipe:
        """The recipe with the parent's tokenizers; raises ModelError when its model is another.

        How text is sampled and how much is dropped out are no part of a model: there they differ.
        """
        ours, theirs = recipe.model.model_dump(), self.model.model_dump()
        named = quote(str(self.path))
        for key in dict.fromkeys([*ours, *theirs]):  # the kind first
            if not key.endswith("dropout") and ours.get(key) != theirs.get(key):
                raise ModelError(
                    f"{self.path}: cannot be started from: its model.{key} is {theirs[key]}, and "
                    f"that of the recipe is {ours[key]}",
                    f"--set model.{key}={theirs[key]}, or train its own recipe: "
                    f"mtkit train {named} -o NEW --set training.start={named}",
                )
        section = self.section.model_copy(update={"sampling": recipe.tokenizer.sampling})
        return recipe.model_copy(update={"tokenizer": section})

    @property
    def words(self) -> str:
        source, target = self.tokenizers
        sizes = f"{source.size:,} pieces"
        if source.fingerprint != target.fingerprint:
            sizes = f"{source.size:,} source and {target.size:,} target pieces"
        return (
            f"starts from the weights of {self.path} and keeps its vocabulary ({sizes}); optimizer "
            "and learning rate start anew"
        )
