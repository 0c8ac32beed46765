"""What the real phpdotenv makes of random texts: the vectors of `test_dotenv.py`.

python -m tests.target.phpdotenv [SEED]    # writes them anew; needs PHP and phpdotenv (Debian: php-cli php-vlucas-phpdotenv)
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

VECTORS = Path(__file__).with_name("phpdotenv-vectors.json")
COUNT = 4_000
"""Texts that are tried; those that teach something are kept."""

PIECES = [
    *'==\'""\\$#\n\n\r \t\v\f;-(1vé\u00a0\u2028\x1c\x85',
    "\\n",
    '\\"',
    "\\$",
    "${A}",
    "${X}",
    "${",
    "\r\n",
    "export ",
    "x y",
]
NAMES = ["A", "B", "AB", "export A", "export AB", "'A'", '"B"', " A", "# A", "A B"]

REAL = r"""
require '/usr/share/php/Dotenv/autoload.php';
$out = [];
foreach (json_decode(stream_get_contents(STDIN), true) as $text) {
    try { $out[] = (object) array_filter(Dotenv\Dotenv::parse($text), fn ($value) => $value !== null); }
    catch (Dotenv\Exception\InvalidFileException $error) { $out[] = null; }
}
echo json_encode($out);
"""


def texts(rng: random.Random) -> list[str]:
    def line() -> str:
        value = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 5)))
        return rng.choice(NAMES) + rng.choice(["=", "=", ' = "', '="', "='", ""]) + value

    return ["\n".join(line() for _ in range(rng.randint(1, 3))) for _ in range(COUNT)]


def real(asked: list[str]) -> list[dict[str, str] | None]:
    """Name -> value of each text; None: refused."""
    ran = subprocess.run(["php", "-r", REAL], input=json.dumps(asked), capture_output=True, text=True, check=True)
    found: list[dict[str, str] | None] = json.loads(ran.stdout)
    return found


def main(seed: int) -> None:
    asked = texts(random.Random(seed))
    told = list(zip(asked, real(asked), strict=True))
    # Most random texts are refused: as many of the others.
    read, refused = ([pair for pair in told if (pair[1] is None) == no] for no in (False, True))
    VECTORS.write_text(json.dumps(read[:200] + refused[:100], indent=0, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
