"""Print what pyproject.toml asks for, one requirement a line. usage: requirements.py [EXTRA or GROUP]...

pip can install these only together with the package itself, which colcon installs here.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
optional = project["project"]["optional-dependencies"] | project["dependency-groups"]
for requirement in project["project"]["dependencies"] + [line for name in sys.argv[1:] for line in optional[name]]:
    print(requirement)
