"""Every kind of model that the laws hold for, small enough to check by exhaustion."""

import torch

from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import ModelSection, RecurrentSection, TransformerSection

SOURCE_SIZE, TARGET_SIZE = 11, 13

# Dropout stays on in the sections: evaluation mode must switch it off.
_RNN: dict[str, object] = {
    "kind": "recurrent",
    "width": 6,
    "embedding": 5,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dropout": 0.5,
    "embedding_dropout": 0.4,
    "source_token_dropout": 0.3,
    "target_token_dropout": 0.3,
}
_TRANSFORMER: dict[str, object] = {
    "kind": "transformer",
    "width": 8,
    "heads": 2,
    "feed_forward": 10,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.5,
    "attention_dropout": 0.3,
    "activation_dropout": 0.3,
    "embedding_dropout": 0.4,
    "source_token_dropout": 0.3,
    "target_token_dropout": 0.3,
    "layer_dropout": 0.3,
}


def _rnn(**changes: object) -> RecurrentSection:
    return RecurrentSection.model_validate(_RNN | changes)


def _transformer(**changes: object) -> TransformerSection:
    return TransformerSection.model_validate(_TRANSFORMER | changes)


KINDS: dict[str, ModelSection] = {
    "rnn-context": _rnn(cell="rnn", memory="context", bidirectional=False),
    "gru-context-both-ways": _rnn(cell="gru", memory="context", tied_embeddings=False),
    "lstm-context-deep-reversed": _rnn(
        cell="lstm",
        memory="context",
        bidirectional=False,
        reverse_source=True,
        encoder_layers=3,
        decoder_layers=3,
    ),
    "lstm-context-bridged-up": _rnn(cell="lstm", memory="context", decoder_layers=2),
    "gru-context-bridged-down": _rnn(
        cell="gru", memory="context", bidirectional=False, encoder_layers=2
    ),
    "gru-additive-both-ways": _rnn(cell="gru", memory="additive"),
    "lstm-additive-fed": _rnn(
        cell="lstm", memory="additive", bidirectional=False, input_feeding=True
    ),
    "lstm-general-deep": _rnn(cell="lstm", memory="general", encoder_layers=2, decoder_layers=2),
    "lstm-general-fed-deep-reversed": _rnn(
        cell="lstm",
        memory="general",
        input_feeding=True,
        reverse_source=True,
        encoder_layers=2,
        decoder_layers=2,
        tied_embeddings=False,
    ),
    "lstm-dot-one-width": _rnn(cell="lstm", memory="dot", bidirectional=False, embedding=6),
    "rnn-dot-fed": _rnn(cell="rnn", memory="dot", input_feeding=True, decoder_layers=2),
    "rnn-concat-deep-reversed": _rnn(
        cell="rnn", memory="concat", reverse_source=True, encoder_layers=2, decoder_layers=2
    ),
    "gru-concat-fed-deep": _rnn(
        cell="gru", memory="concat", input_feeding=True, encoder_layers=2, decoder_layers=2
    ),
    "gru-cho-general-truncated-fed": _rnn(
        cell="gru_cho", memory="general", input_feeding=True, truncate=2, encoder_layers=2
    ),
    "lstm-context-truncated": _rnn(cell="lstm", memory="context", truncate=2),
    "rnn-location": _rnn(cell="rnn", memory="location", places=16),
    "lstm-local-m": _rnn(cell="lstm", memory="general", reach="monotonic", local_window=2),
    "lstm-local-p-fed": _rnn(
        cell="lstm",
        memory="dot",
        reach="predictive",
        local_window=2,
        input_feeding=True,
        reverse_source=True,
    ),
    "bahdanau": _rnn(cell="gru_cho", memory="additive", decoder="bahdanau", encoder_width=10),
    "bahdanau-current-tied": _rnn(
        cell="gru",
        memory="general",
        decoder="bahdanau",
        readout=5,
        readout_state="current",
        encoder_layers=2,
    ),
    "bahdanau-lstm-one-way-truncated": _rnn(
        cell="lstm",
        memory="concat",
        decoder="bahdanau",
        bidirectional=False,
        truncate=2,
        initialisation="bahdanau",
        tied_embeddings=False,
    ),
    "rnnencdec": _rnn(cell="gru_cho", memory="context", decoder="bahdanau", bidirectional=False),
    "window-context": _rnn(cell="gru", memory="context", decoder="window", window=2),
    "window-general-deep": _rnn(
        cell="lstm",
        memory="general",
        decoder="window",
        window=3,
        decoder_layers=2,
        initialisation="uniform",
        tied_embeddings=False,
    ),
    "window-of-one-local-m": _rnn(
        cell="rnn", memory="dot", decoder="window", window=1, reach="monotonic", local_window=2
    ),
    "transformer-pre-all": _transformer(norm="pre", tied_embeddings="all"),
    "transformer-pre-none-gelu": _transformer(
        norm="pre", tied_embeddings="none", activation="gelu", decoder_layers=1
    ),
    "transformer-post-all": _transformer(norm="post", tied_embeddings="all", encoder_layers=1),
    "transformer-post-target": _transformer(norm="post", tied_embeddings="target"),
    "transformer-no-positions": _transformer(positions=False, tied_embeddings="target", heads=1),
}


def tiny_model(
    name: str, seed: int = 0, source_size: int = SOURCE_SIZE, target_size: int = TARGET_SIZE
) -> Seq2Seq:
    """The model of this kind in float64 and evaluation mode, with weights of this seed.

    Noise on every weight: no bias that starts at zero hides a mistake, and no two logits are equal.
    Where one matrix serves both languages, the source vocabulary is as large as the target's.
    """
    section = KINDS[name]
    if isinstance(section, TransformerSection) and section.tied_embeddings == "all":
        source_size = target_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(section, source_size, target_size).double().eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.7)
    return model
