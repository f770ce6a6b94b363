"""`vla policies`: every kind of policy, what it needs, whether it can run here, and what its actions mean."""

from __future__ import annotations

import argparse
import json

from vla_ros.bringup import ROBOT

HELP = "list the policies: what each needs, whether it can run here, and what its actions mean"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead")


def run(args: argparse.Namespace) -> int:
    from vla_ros.policies.kinds import KINDS
    from vla_ros.profile import load_profile
    profile = load_profile(args.robot)
    rows = [row(kind, profile) for kind in KINDS]
    print(json.dumps(rows) if args.json else "\n\n".join(map(told, rows)))
    return 0


def row(kind, profile) -> dict:
    from vla_ros.policies.kinds import spec_of
    return {"policy": kind.form, "what": kind.what, "packages": list(kind.packages),
            "memory": kind.memory, "says": kind.says,
            "hindrance": kind.hindrance(profile), "spec": spec_of(kind, profile), "docs": kind.docs}


def told(row: dict) -> str:
    needs = "; ".join(filter(None, [", ".join(row["packages"]), row["memory"]]))
    lines = [row["policy"], f"  {row['what']}", f"  needs:   {needs or 'nothing more'}",
             f"  here:    {'no: ' + row['hindrance'] if row['hindrance'] else 'yes'}", f"  actions: by {row['says']}"]
    if row["spec"]:
        s = row["spec"]
        lines[-1] += (f": {', '.join(s['names'])} ({s['mode']}, in {s['frame']}), {s['horizon']} steps of "
                      f"{s['period']:g} s{', gripper ' + s['gripper'] if s['gripper'] else ''}")
    return "\n".join([*lines, f"  more:    {row['docs']}"] if row["docs"] else lines)
