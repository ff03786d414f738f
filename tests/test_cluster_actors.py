"""What an importance actor's module must not do to the processes that only look it up."""

from __future__ import annotations

import subprocess
import sys


def test_looking_the_class_up_imports_no_torch() -> None:
    program = (
        "import pickle, sys\n"
        "from theriac.cluster import actors\n"
        "found = pickle.loads(pickle.dumps(actors.ImportanceActor))\n"
        "print(found.__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ImportanceActor", "False"]
