"""What PyBullet's software renderer needs: cheap robot meshes to be fast, and cylinders that are not capsules."""

from __future__ import annotations

import copy
import tempfile
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

SIDES = 20
# For frames without a body; PyBullet would give each of them 1 kg.
LIGHT_INERTIAL = '<inertial><mass value="0.01"/>' \
                 '<inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>'


@cache
def prepared_urdf(path: Path, visuals: str) -> str:
    """The description for PyBullet. 'fast' visuals are its collision shapes: drawing them takes a tenth of the time."""
    root = ET.parse(path).getroot()
    for link in root.findall("link"):
        if link.find("inertial") is None:
            link.append(ET.fromstring(LIGHT_INERTIAL))
        if visuals == "fast":
            draw_collision_shapes(link)
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(path.parent / mesh.get("filename", "").removeprefix("package://")))
    return ET.tostring(root, encoding="unicode")


def draw_collision_shapes(link: ET.Element) -> None:
    for visual in link.findall("visual"):
        link.remove(visual)
    for collision in link.findall("collision"):
        visual = copy.deepcopy(collision)
        visual.tag = "visual"
        link.append(visual)


@contextmanager
def urdf_file(path: Path, visuals: str):
    """The name of a short-lived file for loadURDF; meshes are named by absolute paths in it."""
    with tempfile.NamedTemporaryFile("w", suffix=".urdf") as file:
        file.write(prepared_urdf(path, visuals))
        file.flush()
        yield file.name


@cache
def cylinder_mesh() -> dict:
    """A closed cylinder of unit diameter and height about the origin, as arguments of createVisualShape.

    Every face has vertices of its own, so that each is lit by its own normal.
    """
    angles = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    rim = np.stack([np.cos(angles), np.sin(angles)], 1) / 2
    vertices, normals, indices = [], [], []

    def face(points, normals_of_points):
        first = len(vertices)
        vertices.extend([list(map(float, p)) for p in points])
        normals.extend([list(map(float, n)) for n in normals_of_points])
        for k in range(1, len(points) - 1):
            indices.extend([first, first + k, first + k + 1])

    for a, b in zip(rim, np.roll(rim, -1, axis=0), strict=True):
        na, nb = (*a * 2, 0.0), (*b * 2, 0.0)
        face([(*a, -0.5), (*b, -0.5), (*b, 0.5), (*a, 0.5)], [na, nb, nb, na])
    face([(*p, 0.5) for p in rim], [(0, 0, 1)] * SIDES)
    face([(*p, -0.5) for p in rim[::-1]], [(0, 0, -1)] * SIDES)
    return {"vertices": vertices, "normals": normals, "indices": indices, "uvs": [[0.0, 0.0]] * len(vertices)}
