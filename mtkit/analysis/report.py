"""One self-contained HTML page: no script, no font, no picture from elsewhere; dark and light."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path

from mtkit.analysis.attention import AttentionMaps
from mtkit.analysis.charts import Line, heat_map, lines_chart
from mtkit.analysis.claims import Claim
from mtkit.analysis.comparison import Compared, most_different, worst
from mtkit.analysis.gradients import Gradients
from mtkit.analysis.length import Bin
from mtkit.data.corpus import Pair
from mtkit.training.checkpoint import write_text

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1b1b; --faint: #d9d9d9; --soft: #666; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181c; --ink: #e6e6e6; --faint: #3a3d44; --soft: #a0a4ab; }
  svg { filter: brightness(1.3); }
}
body { background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--faint);
  vertical-align: top; }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 0 1rem; }
svg { max-width: 100%; height: auto; display: block; }
svg text { font-size: 12px; font-family: system-ui, sans-serif; }
svg text:not(.name) { fill: var(--ink); } svg text.name { font-weight: 600; }
svg .grid { stroke: var(--faint); }
svg .cell { stroke: var(--faint); stroke-width: .5; }
.note { color: var(--soft); font-size: 13px; } .yes { color: #009e73; } .no { color: #d55e00; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .8rem; }
dt { color: var(--soft); }
dd { margin: 0; } hr { border: 0; border-top: 1px solid var(--faint); }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """The whole document of sections that are HTML already."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def comparison_sections(compared: Sequence[Compared], pairs: Sequence[Pair]) -> list[str]:
    """Table, learning curves, most different and worst sentences."""
    return [
        runs_table(compared),
        learning_curves(compared),
        side_by_side("Most different sentences", compared, pairs, most_different(compared, pairs)),
        side_by_side(
            f"Worst sentences of {compared[0].facts.name}",
            compared,
            pairs,
            worst(compared[0], pairs),
        ),
    ]


def runs_table(compared: Sequence[Compared]) -> str:
    """One row a run; the signatures of the scores stand under it."""
    heads = ("run", "parameters", "updates", "minutes", "tokens/s", "sentences/s", "loss",
             "BLEU", "p", "chrF", "p")  # fmt: skip
    rows = []
    for run in compared:
        facts = run.facts
        cells = [
            facts.title if facts.title == facts.name else f"{facts.name}: {facts.title}",
            f"{facts.parameters:,}",
            f"{facts.updates:,}",
            f"{facts.seconds / 60:.1f}",
            number(facts.tokens_per_second, ",.0f"),
            f"{run.sentences_per_second:.1f}",
            number(facts.loss, ".3f"),
        ]
        for name in ("bleu", "chrf"):
            p = run.p_values[name]
            cells += [f"{run.scores[name].value:.1f}", "" if p is None else f"{p:.3f}"]
        rows.append(cells)
    signatures = "; ".join(
        f"{score.label}|{score.signature}" for score in compared[0].scores.values()
    )
    note = (
        f"{compared[0].scores['bleu'].sentences} sentences. {signatures}. p: how often so "
        "large a difference from the first run would come by chance were both equally good, by "
        "paired bootstrap. tokens/s: target tokens in training, "
        "of the whole machine at that time."
    )
    return f"<h2>Runs</h2>{table(heads, rows)}<p class='note'>{escape(note)}</p>"


def learning_curves(compared: Sequence[Compared]) -> str:
    """Validation loss by update."""
    curves = [
        Line(run.facts.name, tuple((float(p.update), p.loss) for p in run.facts.curve))
        for run in compared
    ]
    return f"<h2>Learning curves</h2>{lines_chart(curves, 'updates', 'validation loss')}"


def length_section(bins: Mapping[str, Sequence[Bin]]) -> str:
    """BLEU by length of the source, with intervals, and the table of counts."""
    labels = list(dict.fromkeys(b.label for found in bins.values() for b in found))
    curves = [
        Line(
            name,
            tuple((float(labels.index(b.label)), b.scores[0].value) for b in found),
            tuple(b.intervals[0] for b in found),
        )
        for name, found in bins.items()
    ]
    chart = lines_chart(curves, "words of the source", "BLEU", ticks=labels)
    rows = [
        [name, *(f"{b.scores[0].value:.1f} / {b.scores[1].value:.1f}" for b in found)]
        for name, found in bins.items()
    ]
    first = next(iter(bins.values()))
    rows.append(["sentences", *(str(b.sentences) for b in first)])
    return f"<h2>By source length</h2>{chart}{table(['BLEU / chrF', *labels], rows)}"


def gradient_section(found: Sequence[Gradients]) -> str:
    """The reach of the gradients, of encoders and decoders, and Pascanu's measures."""
    parts = ["<h2>Reach of the gradients</h2><div class='charts'>"]
    for side in ("encoder", "decoder"):
        for moment in ("initial", "trained"):
            curves = [
                Line(g.name, tuple((float(d), n) for d, n in enumerate(reach.norms)))
                for g in found
                if g.moment == moment and (reach := getattr(g, side)) is not None
            ]
            words = f"tokens from the {'end of the source' if side == 'encoder' else 'loss'}"
            chart = lines_chart(curves, words, "norm / norm at 0", logarithmic=True)
            parts.append(f"<div><h3>{side}, {moment}</h3>{chart}</div>")
    parts.append("</div>")
    rows = [
        [f"{g.name}, {g.moment}", number(g.radius, ".2f"), number(g.decoder.omega, ".2g"),
         f"{g.decoder.steps:.0%}"]
        for g in found
        if g.decoder is not None
    ]  # fmt: skip
    heads = ("decoder", "spectral radius", "Omega", "steps in the past")
    return "".join(parts) + table(heads, rows)


def attention_section(name: str, found: AttentionMaps) -> str:
    """The first map of a model over one sentence."""
    first = found.maps[0]
    chart = heat_map(first.weights, found.target, found.source)
    darkest = max(weight for row in first.weights for weight in row)
    note = f"{first.name}, entropy {first.entropy:.2f} bits; the darkest square is {darkest:.0%}"
    return (
        f"<h3>Attention of {escape(name)}</h3><div class='wide'>{chart}</div>"
        f"<p class='note'>{escape(note)}</p>"
    )


def claims_section(claims: Sequence[Claim]) -> str:
    """Claim, what was measured, the rule, verdict."""
    rows = []
    for claim in claims:
        kind = {"reproduced": "yes", "not reproduced": "no"}.get(claim.verdict, "note")
        seeds = f"<br><span class='note'>seeds {', '.join(map(str, claim.seeds))}</span>"
        rows.append(
            f"<tr><td>{claim.number}. {escape(claim.claim)}</td><td>{escape(claim.measured)}"
            f"<br><span class='note'>It holds if {escape(claim.rule)}.</span></td>"
            f"<td class='{kind}'>{claim.verdict}{seeds if claim.seeds else ''}</td></tr>"
        )
    head = "<tr><th>claim</th><th>measured</th><th>verdict</th></tr>"
    return (
        f"<h2>Claims</h2><div class='wide'><table class='text'>{head}{''.join(rows)}</table></div>"
    )


def side_by_side(
    title: str, compared: Sequence[Compared], pairs: Sequence[Pair], chosen: Sequence[int]
) -> str:
    """Some sentences with every run's translation."""
    parts = [f"<h2>{escape(title)}</h2>"]
    for index in chosen:
        rows = [("source", pairs[index].source), ("reference", pairs[index].target)]
        rows += [(run.facts.title, run.translations[index]) for run in compared]
        items = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in rows)
        parts.append(f"<dl>{items}</dl><hr>")
    return "".join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain cells as a table."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def number(value: float, form: str) -> str:
    """A value, or nothing where there is none."""
    return format(value, form) if isfinite(value) else ""


def write_page(path: Path, text: str) -> None:
    """Write the page aside, then under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(text, path)
