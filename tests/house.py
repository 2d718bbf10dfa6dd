"""The house rules that no linter knows: `make lint` runs this file.

No Python file above 500 lines, no function above 50 lines of code, no class above 12 public methods, every
`__init__.py` empty.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50
MAX_PUBLIC_METHODS = 12
ROOT = Path(__file__).resolve().parent.parent


def files() -> list[Path]:
    """Every Python file git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


def problems(path: Path) -> Iterator[str]:
    """What breaks the rules in one file."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    lines = text.count("\n")
    if path.name == "__init__.py" and text:
        yield f"{name}: expected an empty file; import from where a thing lives"
    if lines > MAX_FILE_LINES:
        yield f"{name}: {lines} lines; {MAX_FILE_LINES} is the most: it asks to be two"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines; {MAX_FUNCTION_LINES} is the most"
        elif isinstance(node, ast.ClassDef) and name.parts[0] != "tests":
            public = [
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
            ]
            if len(public) > MAX_PUBLIC_METHODS:
                count = len(public)
                yield f"{name}:{node.lineno}: {node.name} has {count} public methods; {MAX_PUBLIC_METHODS} is the most"


def main() -> int:
    """Print every problem; 1 when there is one."""
    checked = files()
    found = [problem for path in checked for problem in problems(path)]
    for problem in found:
        print(problem)
    print(f"house rules: {len(checked)} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
