"""The demo's three departments: a token for each, and what to ask the hub with it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import yaml

DEPARTMENTS = ("Municipal Works", "Water Authority", "Traffic Police")
"""Of configs/demo and demo_cameras: the first owns most and shares it with all, the second its pump with the first, the
third its cameras with nobody."""
PORT = "8470"
TIMEOUT_S = 30


def address(folder: Path) -> str:
    """Where the demo's hub listens, by its configuration."""
    section = yaml.safe_load((folder / "cloud.yaml").read_text(encoding="utf-8"))["hub"]
    return f"http://127.0.0.1:{section['port']}"


def tokens(program: Path, folder: Path) -> dict[str, str]:
    """A new token for each department, made with the command that an administrator types. Raises CalledProcessError."""
    made = {}
    for department in DEPARTMENTS:
        words = ("token", "create", "cloud.yaml", "--department", department, "--purpose", "demo", "--json")
        answer = subprocess.run(  # noqa: S603 - fixed command of our own
            [str(program), *words], cwd=folder, check=True, timeout=TIMEOUT_S, capture_output=True, text=True
        )
        made[department] = str(json.loads(answer.stdout)["token"])
    return made


def show(url: str, made: dict[str, str], say: Callable[[str], None]) -> None:
    """The addresses and tokens, as lines that can be copied into a shell."""
    port = urlsplit(url).port
    say(f"  hub        {url}/docs")
    for department, token in made.items():
        name = department.split()[0].upper()
        say(f"  {name}={token}   # {department}")
    say(f"  console    http://127.0.0.1:{port}/   (log in with one of these tokens)")
    say(f'  try: curl -H "Authorization: Bearer $WATER" http://127.0.0.1:{port}/api/v1/latest   (more: docs/hub.md)')
