"""What `mtkit train --plan` and `mtkit train --verify-resume` say."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mtkit.cli.display import clock, open_display
from mtkit.cli.output import json_line, say, write

if TYPE_CHECKING:
    from mtkit import Recipe

_GB = 1e9


def plan(recipe: "Recipe", *, device: str, as_json: bool) -> None:
    """Say what a run would take."""
    import mtkit

    with open_display(quiet=as_json) as display:
        found = mtkit.plan_run(recipe, device=device, listeners=[display])
    if as_json:
        write(json_line(asdict(found)))
        return
    end = "no end is set" if found.updates is None else f"{found.updates:,} updates in all"
    lasts = "" if found.seconds is None else f": {clock(found.seconds)}, validations not counted"
    named = ", ".join(f"{part} {count:,}" for part, count in found.parameters.items())
    for line in (
        f"parameters  {sum(found.parameters.values()):,}: {named}",
        f"an epoch    {found.pairs:,} pairs, {found.batches_per_epoch:,} batches, "
        f"{found.updates_per_epoch:,} updates",
        f"speed       {found.tokens_per_second:,.0f} target tokens/s, "
        f"{found.seconds_per_update:.3f} s an update ({found.device}, {found.precision})",
        f"the run     {end}{lasts}",
        f"memory      {found.memory / _GB:.2f} GB",
        f"disk        {found.disk / _GB:.2f} GB at most",
    ):
        write(f"{line}\n")


def verify(recipe: "Recipe", *, device: str, as_json: bool) -> None:
    """Say whether a run that is stopped goes on exactly; leaves with 1 when it does not."""
    import mtkit

    with open_display(quiet=as_json) as display:
        found = mtkit.verify_resume(recipe, device=device, listeners=[display])
    if as_json:
        write(json_line({**asdict(found), "exact": found.exact}))
    else:
        for what in ("weights", "losses", "batches"):
            write(f"{what:<8}  {'the same' if getattr(found, what) else 'DIFFERENT'}\n")
        half = found.updates // 2
        verdict = "exactly" if found.exact else "but NOT exactly"
        say(f"a run stopped after {half} of {found.updates} updates goes on, {verdict}")
    if not found.exact:
        raise typer.Exit(1)
