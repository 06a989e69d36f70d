"""The `mtkit` script, and `python -m mtkit` for places where it is not on the path."""

import signal


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it without a word."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mtkit.cli.app import main as carry_out

    signal.signal(signal.SIGINT, heard)
    carry_out()


if __name__ == "__main__":
    main()
