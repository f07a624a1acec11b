"""What every implementation of a port must do, as test classes to subclass: one module for each port.

Their assertions are rewritten by pytest like those of your own tests, so that a failure shows its values.
"""

from __future__ import annotations

import pkgutil

from ...errors import ConfigurationError

try:
    import pytest
except ModuleNotFoundError:
    raise ConfigurationError("the contracts need pytest: pip install 'chatkit-engine[testing]'") from None

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
