"""Serves a LeRobot checkpoint to the process that started it. Runs in LeRobot's environment, Python 3.10 or later.

    DIR/bin/python -I server.py --socket FD --folder CHECKPOINT

The protocol is openpi's websocket: metadata first, then a map for each request and one for each answer. A request holds
the observations that a chunk is made from, oldest first, so that nothing is remembered here. It needs lerobot, aiohttp
and msgpack; of vla_ros it loads what reads messages and JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import hmac
import importlib.util
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

TOKEN = "VLA_TOKEN"
LARGEST = 1 << 26  # bytes of a request


def ours() -> None:
    """Makes vla_ros importable here, and nothing that lies beside it."""
    package = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location("vla_ros", package / "__init__.py",
                                                  submodule_search_locations=[str(package)])
    sys.modules["vla_ros"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


class Model:
    """A policy of LeRobot with its processors. device: empty for the checkpoint's; vlm: folder of a backbone."""

    def __init__(self, folder: Path, device: str = "", vlm: str = ""):
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        from vla_ros.lerobot.checkpoint import BEFORE, read_features, steps
        self.features = read_features(folder)  # refuses steps that are somebody's code
        self.config = config = PreTrainedConfig.from_pretrained(folder, local_files_only=True)
        config.device = device or config.device
        for name, value in {"pretrained_backbone_weights": None, "load_vlm_weights": False,
                            "vlm_model_name": vlm or getattr(config, "vlm_model_name", "")}.items():
            if hasattr(config, name):  # all weights are the checkpoint's: none are fetched to be written over
                setattr(config, name, value)
        made = get_policy_class(config.type).from_pretrained(folder, config=config, local_files_only=True, strict=True)
        self.policy = made.to(config.device).eval()
        there = {step["registry_name"] for step in steps(folder, BEFORE)}
        changes = {"device_processor": {"device": config.device}}
        changes |= {"tokenizer_processor": {"tokenizer_name": vlm}} if vlm else {}
        self.before, self.after = make_pre_post_processors(
            config, pretrained_path=str(folder),
            preprocessor_overrides={name: change for name, change in changes.items() if name in there})

    def chunk(self, observations: list[dict], seed: int):
        """float64 (T, D) in the units of the data set. observations: maps of arrays and text, oldest first."""
        import torch
        torch.manual_seed(seed)
        self.policy.reset()
        with torch.inference_mode():
            batches = [self.before({name: tensor(value) for name, value in said.items()}) for said in observations]
            if self.config.type == "diffusion":
                batches = [self._remembered(batch) for batch in batches]
            return self.after(self.policy.predict_action_chunk(batches[-1]))[0].double().numpy()

    def _remembered(self, batch: dict) -> dict:
        """Diffusion reads its past from queues, which its `select_action` fills one step at a time, as this does."""
        import torch
        from lerobot.policies.utils import populate_queues
        from lerobot.utils.constants import ACTION, OBS_IMAGES
        batch = {name: value for name, value in batch.items() if name != ACTION}  # none, where nothing is learnt
        batch[OBS_IMAGES] = torch.stack([batch[name] for name in self.config.image_features], dim=-4)
        self.policy._queues = populate_queues(self.policy._queues, batch)
        return batch


def tensor(value):
    """An image uint8 (H, W, 3) as float (3, H, W) in 0 to 1, a state as float (N,); the words stay words."""
    import torch
    if isinstance(value, str):
        return value
    made = torch.from_numpy(value.copy())
    return made.movedim(-1, 0).float() / 255 if made.ndim == 3 else made.float()


def plain(said: dict) -> dict:
    """An observation by LeRobot's names: what we call the prompt is its task."""
    return {"task" if name == "prompt" else name: value for name, value in said.items()}


def answer(model, said, hung: float) -> dict:
    """Raises what the model raises. hung: [s] after which this process ends, to be started again."""
    begin = time.perf_counter()
    faulthandler.dump_traceback_later(hung, exit=True)
    try:
        actions = model.chunk([plain(one) for one in said["observations"]], said["seed"])
    finally:
        faulthandler.cancel_dump_traceback_later()
    return {"actions": actions, "server_timing": {"infer_ms": 1e3 * (time.perf_counter() - begin)}}


async def serve(model, metadata: dict, listening: socket.socket, hung: float, ready) -> None:
    """Until it is ended."""
    from aiohttp import WSMsgType, web

    from vla_ros.remote.packing import pack, unpack
    one_at_a_time, run = asyncio.Lock(), asyncio.get_running_loop().run_in_executor

    async def talk(request: web.Request) -> web.StreamResponse:
        said = request.headers.get("Authorization", "")
        if not hmac.compare_digest(said.encode(), f"Api-Key {os.environ[TOKEN]}".encode()):
            return web.Response(status=401)
        link = web.WebSocketResponse(max_msg_size=LARGEST)
        await link.prepare(request)
        await link.send_bytes(pack(metadata))
        async for message in link:
            if message.type != WSMsgType.BINARY:
                break
            try:
                async with one_at_a_time:
                    made = await run(None, answer, model, unpack(message.data), hung)
                await link.send_bytes(pack(made))
            except Exception as error:  # whatever a model raises: it is said to who asked, who is ourselves
                await link.send_str(" ".join(f"{type(error).__name__}: {error}".split()))
        return link

    app = web.Application()
    app.add_routes([web.get("/", talk)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    ready({})
    await asyncio.Event().wait()


def identity(folder: Path, kind: str) -> dict:
    """What is the same as long as the weights are: who comes back as another is not let near the robot."""
    weights = (folder / "model.safetensors").stat()
    return {"server": "lerobot", "kind": kind, "weights": [weights.st_size, weights.st_mtime_ns]}


def end_with_parent() -> None:
    """Standard input is a pipe that the parent holds, and never writes to."""
    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)
    threading.Thread(target=wait, daemon=True).start()


def main(load=Model) -> int:
    """load: of a folder, a device and a backbone, to what has `chunk`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", type=int, required=True, help="descriptor of a socket that listens")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--device", default="")
    parser.add_argument("--vlm", default="")
    parser.add_argument("--hung", type=float, default=60.0)
    args = parser.parse_args()
    end_with_parent()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no word of ours

    def ready(words: dict) -> None:
        print(json.dumps(words), file=said, flush=True)
    try:
        ours()
        model = load(args.folder, args.device, args.vlm)
        metadata = identity(args.folder, model.features.kind)
    except Exception as error:  # whatever LeRobot raises: it is the reason
        ready({"error": " ".join(f"{type(error).__name__}: {error}".split())})
        return 2
    asyncio.run(serve(model, metadata, socket.socket(fileno=args.socket), args.hung, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
