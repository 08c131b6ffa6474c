"""`make structure`: list files over 300 lines and folders over 15 modules; exit code 1 when there are any."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

MAX_LINES = 300
MAX_MODULES = 15
ROOT = Path(__file__).parents[2]


def violations(files: dict[str, int]) -> list[str]:
    """One line per file with too many lines and per folder with too many modules.

    Args:
        files: lines of each Python file, by its path.
    """
    long = [f"{path}: {lines} lines, at most {MAX_LINES}" for path, lines in files.items() if lines > MAX_LINES]
    modules = Counter(str(Path(path).parent) for path in files if Path(path).name != "__init__.py")
    full = [f"{folder}/: {count} modules, at most {MAX_MODULES}" for folder, count in modules.items()]
    return long + [line for line, count in zip(full, modules.values(), strict=True) if count > MAX_MODULES]


def main() -> int:
    """Check the Python files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    files = {name: len((ROOT / name).read_text().splitlines()) for name in names if name and (ROOT / name).exists()}
    found = violations(files)
    sys.stdout.write("\n".join([*found, f"{len(files)} Python files, {len(found)} violations"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
