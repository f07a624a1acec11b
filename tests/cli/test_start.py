"""What the commands load when they start: the demo only when it is shown."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_is_not_loaded_before_it_is_shown() -> None:
    program = (
        "import sys\n"
        "import chatkit.cli.commands\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('chatkit._demo', 'rich'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
