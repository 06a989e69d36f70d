"""How fast a model decodes here, beside CTranslate2 and Hugging Face, on the same sentences.

    python tests/bench/decode_speed.py MODEL CORPUS
    python tests/bench/decode_speed.py --random small CORPUS     # or base, or lstm: untrained

For each engine and precision, each in a process of its own: sentences and target tokens a second
with batches of 64 (beam 5 and greedy; as many workers of one thread as there are processors), the
latency of one sentence at a time (beam 5, one thread), seconds to load, peak memory, and BLEU. The
engines take turns, since machines with shared processors are noisy: compare the rows of one table.
A model with random weights has the sizes of the recipe presets' Transformers, and writes 15 tokens
(small) or 30 (base) whatever it reads. Only pieces are timed, tokenisation is not.

    ... --peer OpenNMT-py 'onmt_translate -model M -src {input} -output /dev/null -beam_size 5 ...'

Another decoder stands in a row of its own (beam search, with the peer's own settings): its command
is run on the first 100 of the sentences and on all of them, as pieces in the file `{input}`, and
the difference is what the others took, so that its start does not count.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

ENGINES = {
    "mtkit": ("float32", "bfloat16", "int8"),
    "compiled": ("float32", "int8"),  # mtkit with --compile
    "ctranslate2": ("float32", "int8"),
    "huggingface": ("float32",),
}
MODES = ("beam", "greedy", "single")
SIZES = {
    "small": {"width": 256, "heads": 4, "feed_forward": 1024, "layers": 3, "tokens": 15},
    "base": {"width": 512, "heads": 8, "feed_forward": 2048, "layers": 6, "tokens": 30},
    "lstm": {"width": 512, "embedding": 256, "layers": 2, "tokens": 15},
}
SINGLE = 100  # sentences that are translated one at a time
FEW = 100  # sentences of a peer's first call


@dataclass(frozen=True)
class Task:
    """One row: what is run, on what, how."""

    engine: str
    precision: str
    modes: tuple[str, ...]
    model: str
    corpus: str
    sentences: int
    workers: int
    forced: int  # tokens of every output; 0: as the model wants


def make_random(size: str, corpus: str, folder: Path) -> None:
    """A model directory with weights by chance that never ends a sentence of itself."""
    import torch

    import mtkit
    from mtkit.recipe import RecurrentSection, TransformerSection
    from mtkit.symbols import EOS

    shape = {key: value for key, value in SIZES[size].items() if key not in ("layers", "tokens")}
    shape |= dict.fromkeys(("encoder_layers", "decoder_layers"), SIZES[size]["layers"])
    if size == "lstm":
        section = RecurrentSection(
            kind="recurrent", cell="lstm", memory="general", input_feeding=True, **shape
        )
    else:
        section = TransformerSection(kind="transformer", **shape)
    pairs = list(islice(mtkit.open_corpus(corpus), 30_000))
    lines = [side for pair in pairs for side in (pair.source, pair.target)]
    tokenizer = mtkit.Tokenizer.train(lines, mtkit.TokenizerSection(vocabulary=8000))
    torch.manual_seed(1)
    model = mtkit.build(section, tokenizer.size, tokenizer.size)
    with torch.no_grad():
        if size == "lstm":
            model.output_layer()[1][EOS] = -25.0
        else:
            # One feature is always there, and speaks against EOS and for nothing else.
            model.output.weight[:, 0] = 0.0
            model.output.weight[EOS, 0] = -25.0
            model.decoder_norm.weight[0] = 0.0
            model.decoder_norm.bias[0] = 4.0
    mtkit.save(folder, model, mtkit.Recipe(model=section), tokenizer, tokenizer, {})


class Ours:
    """mtkit on lists of token ids."""

    def __init__(self, task: Task, workers: int) -> None:
        import mtkit

        self.translator = mtkit.Translator.load(
            task.model,
            device="cpu",
            precision=task.precision,
            workers=workers,
            compiled=task.engine == "compiled",
        )
        if self.translator.uncompiled:
            raise SystemExit(self.translator.uncompiled)
        self.translator.max_tokens = 1 << 30
        self.forced = task.forced
        self.tokenizers = self.translator.source_tokenizer, self.translator.target_tokenizer

    def set_beam(self, beam: int) -> None:
        options = replace(self.translator.options, beam=beam)
        if self.forced:
            longest = self.forced + 1
            options = replace(options, max_length_ratio=0, max_length_offset=longest)
        self.translator.options = options

    def search(self, sources: Sequence[list[int]]) -> list[list[int]]:
        order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
        batches = [order[first : first + 64] for first in range(0, len(order), 64)]
        given = [(self.translator.options, [sources[i] for i in batch], None) for batch in batches]
        outputs: list[list[int]] = [[] for _ in sources]
        for batch, found in zip(batches, self.translator._spread(given), strict=True):
            for index, best in zip(batch, found, strict=True):
                outputs[index] = list(best[0].tokens)
        return outputs


class Theirs:
    """CTranslate2 on the same, by the exported model."""

    def __init__(self, task: Task, workers: int) -> None:
        import mtkit
        from mtkit.decoding.export import Exported

        self.tokenizers = tuple(
            mtkit.Tokenizer.load(Path(task.model) / f"{side}.spm") for side in ("source", "target")
        )
        options = mtkit.SearchOptions(**json.loads(Path(task.model, "options.json").read_text()))
        self.exported = Exported(
            Path(task.model),
            *self.tokenizers,
            options,
            device="cpu",
            compute_type=task.precision,
            inter_threads=workers,
            intra_threads=1,
        )
        source, target = self.tokenizers
        self.pieces = [source.piece(token) for token in range(source.size)]
        self.ids = {target.piece(token): token for token in range(target.size)}
        self.settings = {}
        if task.forced:
            self.settings = {
                "max_decoding_length": task.forced,
                "min_decoding_length": task.forced,
                "num_hypotheses": 1,
            }

    def set_beam(self, beam: int) -> None:
        self.exported.options = replace(self.exported.options, beam=beam)

    def search(self, sources: Sequence[list[int]]) -> list[list[int]]:
        rows = [[self.pieces[token] for token in row] for row in sources]
        outputs = self.exported.search(rows, **self.settings)
        return [[self.ids[piece] for piece in row] for row in outputs]


class Generate:
    """Hugging Face's `generate` on a MarianMTModel of the same size and random weights."""

    def __init__(self, task: Task, workers: int) -> None:
        import torch
        from transformers import MarianConfig, MarianMTModel

        import mtkit

        torch.set_num_threads(workers)
        loaded = mtkit.load(Path(task.model))
        section, size = loaded.recipe.model, loaded.target_tokenizer.size
        self.tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
        config = MarianConfig(
            vocab_size=size,
            d_model=section.width,
            encoder_layers=section.encoder_layers,
            decoder_layers=section.decoder_layers,
            encoder_attention_heads=section.heads,
            decoder_attention_heads=section.heads,
            encoder_ffn_dim=section.feed_forward,
            decoder_ffn_dim=section.feed_forward,
            max_position_embeddings=512,
            pad_token_id=0,
            eos_token_id=3,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
        )
        self.model = MarianMTModel(config).eval()
        self.forced = task.forced
        self.beam = 5

    def set_beam(self, beam: int) -> None:
        self.beam = beam

    def search(self, sources: Sequence[list[int]]) -> list[list[int]]:
        import torch

        order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
        outputs: list[list[int]] = [[] for _ in sources]
        for first in range(0, len(order), 64):
            batch = order[first : first + 64]
            longest = len(sources[batch[0]]) + 1
            rows = [[*sources[i], 3, *[0] * (longest - 1 - len(sources[i]))] for i in batch]
            source = torch.tensor(rows)
            with torch.inference_mode():
                found = self.model.generate(
                    input_ids=source,
                    attention_mask=(source != 0).long(),
                    num_beams=self.beam,
                    do_sample=False,
                    max_new_tokens=self.forced,
                    min_new_tokens=self.forced,
                )
            for index, row in zip(batch, found.tolist(), strict=True):
                outputs[index] = row[1:]
        return outputs


def measure(task: Task) -> dict[str, object]:
    """What one engine does in one precision: a row of the table."""
    import mtkit

    engines = {"mtkit": Ours, "compiled": Ours, "ctranslate2": Theirs, "huggingface": Generate}
    engine = engines[task.engine]
    pairs = list(islice(mtkit.open_corpus(task.corpus), task.sentences))
    began = time.perf_counter()
    runner = engine(task, task.workers)
    row: dict[str, object] = {"load s": time.perf_counter() - began}
    source, target = runner.tokenizers
    ids = source.encode([pair.source for pair in pairs])
    for mode in [mode for mode in ("beam", "greedy") if mode in task.modes]:
        runner.set_beam(5 if mode == "beam" else 1)
        runner.search(ids[:128])
        took, outputs = [], []
        while not took or (sum(took) < 4 and len(took) < 4):
            began = time.perf_counter()
            outputs = runner.search(ids)
            took.append(time.perf_counter() - began)
        if task.forced:
            assert {len(output) for output in outputs} == {task.forced}
        row[f"{mode} sent/s"] = len(ids) / min(took)
        row[f"{mode} tok/s"] = sum(map(len, outputs)) / min(took)
        if mode == "beam" and not task.forced:
            texts, references = target.decode(outputs), [pair.target for pair in pairs]
            row["BLEU"] = mtkit.score(texts, references, metrics=["bleu"])[0].value
    row["peak MB"] = peak_memory()
    if "single" in task.modes:
        runner = engine(task, 1)
        runner.set_beam(5)
        took = []
        for sentence in [*ids[:5], *ids[: min(SINGLE, len(ids))]]:
            began = time.perf_counter()
            runner.search([sentence])
            took.append(1e3 * (time.perf_counter() - began))
        took = sorted(took[5:])
        row["p50 ms"], row["p90 ms"] = statistics.median(took), took[int(0.9 * len(took))]
    return row


def measure_peer(command: str, pieces: list[str]) -> float:
    """Sentences a second of another decoder's command, without its start."""
    took = []
    with TemporaryDirectory() as scratch:
        source = Path(scratch, "input.txt")
        for count in (FEW, len(pieces)):
            source.write_text("".join(f"{line}\n" for line in pieces[:count]), encoding="utf-8")
            began = time.perf_counter()
            told = command.replace("{input}", str(source))
            subprocess.run(["bash", "-c", told], check=True, capture_output=True)
            took.append(time.perf_counter() - began)
    return (len(pieces) - FEW) / (took[1] - took[0])


def in_pieces(model: str, corpus: str, count: int) -> list[str]:
    """The corpus' first sources, their pieces parted by spaces."""
    import mtkit

    tokenizer = mtkit.load(Path(model)).source_tokenizer
    pairs = islice(mtkit.open_corpus(corpus), count)
    rows = tokenizer.encode([pair.source for pair in pairs])
    return [" ".join(map(tokenizer.piece, row)) for row in rows]


def peak_memory() -> float:
    """MB that this process held at most, and what its children hold now that is not shared."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    me = str(Path("/proc/self").resolve().name)
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if fields["PPid"].strip() != me:
                continue
            rollup = status.with_name("smaps_rollup").read_text().splitlines()[1:]
        except (OSError, ValueError):
            continue
        sizes = dict(line.split(":", 1) for line in rollup)
        own += int(sizes["Private_Dirty"].split()[0]) / 1024
    return own


def show(rows: list[tuple[str, str, dict[str, object]]]) -> None:
    columns = [*dict.fromkeys(name for _, _, row in rows for name in row)]
    print("| engine | precision | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for engine, precision, row in rows:
        cells = [f"{row[name]:,.1f}" if name in row else "" for name in columns]
        print(f"| {engine} | {precision} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", metavar="[MODEL] CORPUS")
    parser.add_argument("--random", choices=SIZES)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--precision", action="append")
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--forced", type=int, default=0, help="tokens of every output")
    parser.add_argument("--peer", action="append", nargs=2, default=[], dest="peers")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        fields = json.loads(arguments.task)
        print(json.dumps(measure(Task(**{**fields, "modes": tuple(fields["modes"])}))))
        return
    import mtkit
    from mtkit.decoding.export import export
    from mtkit.decoding.workers import own_processors

    *named, corpus = arguments.names
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "random") if arguments.random else Path(named[0])
        if arguments.random:
            make_random(arguments.random, corpus, folder)
        theirs = [] if arguments.random == "lstm" else ["ctranslate2"]
        engines = arguments.engine or ["mtkit", "compiled", *theirs]
        if "ctranslate2" in engines:
            loaded = mtkit.load(folder)
            export(loaded, Path(scratch, "exported"))
            options = mtkit.SearchOptions.from_section(loaded.recipe.search)
            Path(scratch, "exported", "options.json").write_text(json.dumps(vars(options)))
        rows = []
        for engine in engines:
            for precision in ENGINES[engine]:
                if arguments.precision and precision not in arguments.precision:
                    continue
                task = Task(
                    engine,
                    precision,
                    tuple(arguments.mode or MODES),
                    str(Path(scratch, "exported") if engine == "ctranslate2" else folder),
                    corpus,
                    arguments.sentences,
                    arguments.workers or own_processors(),
                    SIZES[arguments.random]["tokens"] if arguments.random else arguments.forced,
                )
                done = subprocess.run(
                    [sys.executable, __file__, corpus, "--task", json.dumps(vars(task))],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                rows.append((engine, precision, json.loads(done.stdout.splitlines()[-1])))
                print(engine, precision, rows[-1][2], file=sys.stderr, flush=True)
        for name, command in arguments.peers:
            rate = measure_peer(command, in_pieces(str(folder), corpus, arguments.sentences))
            rows.append((name, "", {"beam sent/s": rate}))
    if arguments.json:
        print(json.dumps([{"engine": e, "precision": p, **row} for e, p, row in rows]))
    else:
        show(rows)


if __name__ == "__main__":
    main()
