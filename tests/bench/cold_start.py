"""How long a whole `mtkit translate` takes for one line, beside `import torch`.

    python tests/bench/cold_start.py MODEL

Both are whole processes and take turns, since machines with shared processors are noisy. Prints the
median of each in seconds, and their ratio; with --imports also what the translation imports that
`import torch` does not, by the seconds that it takes.
"""

import argparse
import statistics
import subprocess
import sys
import time

LINE = "A man in an orange hat starring at something.\n"
TORCH = [sys.executable, "-c", "import torch"]


def took(command: list[str], text: str = "") -> float:
    began = time.perf_counter()
    subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return time.perf_counter() - began


def imported(command: list[str], text: str = "") -> dict[str, float]:
    """Seconds that each module takes by itself, by the interpreter's own count."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(timed, input=text, capture_output=True, text=True, check=True)
    lines = (line.removeprefix("import time:") for line in done.stderr.splitlines())
    rows = (line.split("|") for line in lines if line.count("|") == 2)
    return {name.strip(): int(own) / 1e6 for own, _, name in rows if own.strip().isdigit()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("flags", nargs="*", help="of mtkit translate, behind --")
    arguments = parser.parse_args()
    translate = [sys.executable, "-m", "mtkit", "translate", arguments.model, *arguments.flags]
    times: dict[str, list[float]] = {"import torch": [], "mtkit translate": []}
    took(TORCH), took(translate, LINE)
    for _ in range(arguments.runs):
        times["import torch"].append(took(TORCH))
        times["mtkit translate"].append(took(translate, LINE))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:16} {median:.2f} s")
    print(f"{'ratio':16} {medians['mtkit translate'] / medians['import torch']:.2f}")
    if arguments.imports:
        ours, theirs = imported(translate, LINE), imported(TORCH)
        extra = sorted(((seconds, name) for name, seconds in ours.items() if name not in theirs))
        print(f"{sum(seconds for seconds, _ in extra):.2f} s in {len(extra)} modules besides")
        for seconds, name in extra[:-31:-1]:
            print(f"  {seconds:.3f} {name}")


if __name__ == "__main__":
    main()
