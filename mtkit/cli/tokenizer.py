"""`mtkit tokenizer`."""

import typer

app = typer.Typer(help="Train a tokenizer; turn text into pieces and back.", no_args_is_help=True)
