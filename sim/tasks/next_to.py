"""Next to: the named object stands beside another one, on the named side if there is one, and the hand has let it go.
"""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import HAND_CLEARANCE, TABLE_BOX, Kind, Placed, arm_scene, crowded, spacing, table_objects
from vla_ros.sim.tasks.task import RELATION_VECTORS, transported
from vla_ros.sim.world import Scene, WorldState

RELATIONS = ("next to", *RELATION_VECTORS)
BESIDE = 0.085  # [m] between the centres of neighbours: wide open fingers fit between them
APART = (0.040, 0.105)  # [m] least and greatest distance between the centres
ASIDE = np.cos(np.radians(35.0))  # of the angle to the named side, at least
HEIGHT = 0.008  # [m] at most from its height at rest
FAR = 0.14  # [m] apart in the beginning: there is something to do
LOW, TALL = ("ball",), ("cylinder", "cone")  # around the low the hand would meet a tall one beside it


class NextTo:
    name = "next_to"
    robot = "panda"
    time_limit = 15.0
    hold = 0.3

    def layout(self, rng: np.random.Generator) -> Scene:
        relation = RELATIONS[rng.integers(len(RELATIONS))]

        def blocked(kind: Kind, place: np.ndarray, placed: Placed) -> bool:
            if not placed:
                return False
            target = placed[0][1]
            if len(placed) == 1:
                return not roomy(place, target, relation, placed[0][0][0] in LOW and kind[0] in TALL)
            return crowded(place, beside(placed[1][1], target, relation), spacing(kind, placed[0][0]))

        def suits(kinds: list[Kind]) -> bool:
            lateral = relation in ("left of", "right of")
            return not (lateral and kinds[0][0] in LOW and kinds[1][0] in TALL)

        objects = table_objects(rng, blocked=blocked, suits=suits)
        return arm_scene(rng, self.name, objects, named=2, relation=relation)

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        target, reference = state.objects[scene.target], state.objects[scene.reference]
        rest = scene.objects[scene.target].half_height
        goal = np.array([*beside(reference[:2], target[:2], scene.relation), rest])
        apart = float(np.hypot(*(target - reference)[:2]))
        facing = (target - reference)[:2] @ heading(reference[:2], target[:2], scene.relation)
        lies = APART[0] < apart < APART[1] and facing > ASIDE * apart and abs(target[2] - rest) < HEIGHT
        return transported(state, scene, float(np.linalg.norm(target - goal)), bool(lies))


def heading(reference: np.ndarray, target: np.ndarray, relation: str) -> np.ndarray:
    """(2,) unit vector from the reference to the named side; without one, to where the target is."""
    if relation in RELATION_VECTORS:
        return np.array(RELATION_VECTORS[relation])
    offset = target - reference
    return offset / max(float(np.hypot(*offset)), 1e-6)


def beside(reference: np.ndarray, target: np.ndarray, relation: str) -> np.ndarray:
    """(2,) [m] where the target is best put."""
    return reference + BESIDE * heading(reference, target, relation)


def roomy(reference: np.ndarray, target: np.ndarray, relation: str, narrow: bool) -> bool:
    """Whether there is something to do and the goal is on the table; narrow: and not at the hand's ends."""
    goal = beside(reference, target, relation)
    on_table = bool((goal >= TABLE_BOX[0]).all() and (goal <= TABLE_BOX[1]).all())
    clear = not narrow or abs(goal[0] - reference[0]) > HAND_CLEARANCE[0]
    return on_table and clear and float(np.hypot(*(target - reference))) > FAR
