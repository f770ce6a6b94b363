"""Who may import whom: the table in ARCHITECTURE.md is the rule, and this reads it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "rclpy", "pybullet", "pybullet_data", "launch", "launch_ros", "vla_ros.msg")
FREE = {"numpy", "vla_ros", *sys.stdlib_module_names}
INTERFACES = ("builtin_interfaces", "rcl_interfaces", "std_srvs")  # beside all that end in _msgs
MESSAGES = "messages"  # in the table: every generated interface package


def table_rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of ARCHITECTURE.md, without its head."""
    lines = (ROOT / "ARCHITECTURE.md").read_text().split(f"## {heading}\n", 1)[1].splitlines()
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


@cache
def rules() -> dict[str, tuple[set[str], set[str]]]:
    """File, or folder with all below it -> (parts of ours, packages of others) that may be imported there."""
    def words(cell: str) -> set[str]:
        return {word for word in cell.replace(",", " ").split() if word != "-"}
    return {path: (words(ours), words(others)) for path, ours, others in table_rows("Who may import whom")}


def files() -> list[str]:
    folders = ("vla_ros", "sim", "launch", "bench")
    found = {p for folder in folders for p in (ROOT / folder).rglob("*.py") if "vla_ros/sim/" not in p.as_posix()}
    return sorted(p.relative_to(ROOT).as_posix() for p in found)


def core_files() -> list[str]:
    ours = [p for p in files() if p.startswith("vla_ros/") and p.count("/") == 1 and not p.endswith("__init__.py")]
    return [p for p in ours if part(f"vla_ros.{Path(p).stem}") == "core"]


def rule_of(path: str) -> tuple[set[str], set[str]]:
    """That of the longest path that fits."""
    fitting = [row for row in rules() if path.startswith(row)]
    assert fitting, f"{path}: no row in ARCHITECTURE.md"
    return rules()[max(fitting, key=len)]


def imports(path: str) -> set[str]:
    """Dotted names of everything that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [alias.name for alias in node.names] if node.module == "vla_ros" else []
            names |= {f"vla_ros.{name}" for name in inner} or {node.module}
    return names


def part(name: str) -> str:
    """core, cli, bringup, messages, or the folder that a module of ours is in."""
    _, _, rest = name.partition(".")
    first = rest.split(".")[0]
    if first in ("msg", "srv", "action"):
        return MESSAGES
    return first if first in ("cli", "bringup") or (ROOT / "vla_ros" / first).is_dir() and first else "core"


def package(name: str) -> str:
    top = name.split(".")[0]
    return MESSAGES if top.endswith("_msgs") or top in INTERFACES else top


@pytest.mark.parametrize("path", files())
def test_a_file_imports_only_what_its_row_allows(path):
    ours, others = rule_of(path)
    for name in imports(path):
        if name.split(".")[0] == "vla_ros":
            allowed = ours | (others & {MESSAGES})
            assert part(name) in allowed, f"{path} imports {name}, but its row allows {sorted(allowed)} of ours"
        elif package(name) not in FREE:
            assert package(name) in others, f"{path} imports {name}, but its row allows {sorted(others)} of others"


@pytest.mark.parametrize("row", sorted(rules()))
def test_every_row_is_about_something(row):
    assert any(path.startswith(row) for path in files())


@pytest.mark.parametrize("name,allowed", [
    ("rclpy", {"vla_ros/nodes/", "vla_ros/nodes/bag.py", "bench/overhead.py"}), ("pybullet", {"sim/"}),
    ("launch_ros", {"vla_ros/nodes/launching.py"}), ("mcap", {"vla_ros/nodes/bag.py"}),
    ("pink", {"vla_ros/kinematics.py"}),
    ("torch", {"vla_ros/lerobot/server.py", "vla_ros/model/", "vla_ros/openvla/", "vla_ros/openvla/quantised.py",
               "vla_ros/policies/", "vla_ros/training/", "vla_ros/training/finetuning.py", "vla_ros/vlm/",
               "vla_ros/vlm/pi0_lerobot.py", "vla_ros/vlm/tuning.py", "bench/", "bench/peer/", "bench/inference.py",
               "bench/oft_parity.py", "bench/oft_reference.py", "bench/openvla_parity.py",
               "bench/openvla_reference.py", "bench/small_pi0.py"})])
def test_the_table_itself_keeps_the_heavy_packages_where_they_belong(name, allowed):
    assert {row for row, (_, others) in rules().items() if name in others} == allowed


def test_the_core_knows_nothing_above_it_and_has_no_circles():
    graph = {Path(path).stem: {n.split(".")[1] for n in imports(path) if n.startswith("vla_ros.") and part(n) == "core"}
             for path in core_files()}
    while graph:
        leaves = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert leaves, f"circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def run_blocked(blocked: tuple[str, ...], code: str) -> None:
    """Runs `code` in a fresh interpreter in which importing any of `blocked` fails."""
    block = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""
    done = subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_core_imports_with_the_heavy_packages_blocked():
    assert len(core_files()) > 12
    run_blocked(HEAVY, "\n".join(f"import vla_ros.{Path(path).stem}" for path in core_files()))


def test_the_command_line_helps_with_the_heavy_packages_blocked():
    run_blocked(HEAVY, "from vla_ros.cli import usage; assert 'eval' in usage()")


def test_the_model_needs_no_ros_and_no_simulator_and_the_simulator_no_torch():
    without_torch = tuple(n for n in HEAVY if not n.startswith("pybullet"))
    run_blocked(without_torch, "import vla_ros.sim.bullet, vla_ros.sim.oracle, vla_ros.sim.tasks")
    run_blocked(("rclpy", "pybullet", "vla_ros.msg"), "import vla_ros.policies.native")


def test_importing_the_package_imports_nothing_heavy():
    run_blocked((), f"import sys, vla_ros\nfound = [n for n in {HEAVY!r} if n in sys.modules]\nassert not found, found")
