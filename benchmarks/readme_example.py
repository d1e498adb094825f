"""Run the README's example as it is printed there and keep what it prints."""

import contextlib
import io
import re
from pathlib import Path

from _common import RESULTS, machine_facts

README = Path(__file__).parents[1] / "README.md"


def main():
    code, shown = re.search(
        r"```python\n(.*?)```.*?```text\n(.*?)```", README.read_text(), re.S
    ).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    facts = ", ".join(f"{key} {value}" for key, value in machine_facts().items() if value)
    (RESULTS / "readme_example.txt").write_text(f"# {facts}\n{printed.getvalue()}")
    print(printed.getvalue(), end="")
    if printed.getvalue() != shown:
        print("The README shows something else: put the lines above into it.")


if __name__ == "__main__":
    main()
