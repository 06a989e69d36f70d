"""`python -m mtkit`: the command line, for places where the `mtkit` script is not on the path."""

from mtkit.cli.app import main

if __name__ == "__main__":
    main()
