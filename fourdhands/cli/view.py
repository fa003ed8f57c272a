"""`fourdhands view`: a reconstruction in the browser."""

import time
from pathlib import Path

from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.video.results import VideoHands
from fourdhands.video.view import Pictures, hand_model_error, serve

TICK = 1 / 60
OTHER_HAND = 0.003
"""Metres between joints as stored and as posed here, with which the hands are another model's."""


def view(
    folder: Path,
    *,
    port: int = 8080,
    host: str = "127.0.0.1",
    mano: Path | None = None,
) -> None:
    """Look at a reconstruction in the browser, until Ctrl-C.

    On a machine behind ssh, connect with `ssh -L 8080:localhost:8080 MACHINE` and open
    http://localhost:8080.

    Args:
        folder: What `fourdhands reconstruct` wrote.
        port: Of the page.
        host: Address to listen at; 0.0.0.0 lets other machines in.
        mano: Folder that `fourdhands hands import` wrote, if the hands are MANO's.

    Raises:
        ValueError: There is no viser, or the folder holds something else.
        FileNotFoundError: There is no reconstruction.
    """
    if not 0 < port < 65536:
        raise ValueError(f"--port is {port}, it has to be between 1 and 65535")
    hands = VideoHands.load(folder / "hands.npz")
    overlay = folder / "overlay.mp4"
    width, height = (float(value) for value in hands.image_size)
    # the overlay's right part is the view from the side, a square of the shorter side
    pictures = Pictures(
        overlay if overlay.is_file() else None, width / (width + min(width, height))
    )
    model = HandModel(load_assets(mano)).eval()
    if hand_model_error(hands, model) > OTHER_HAND:
        given = "an imported one: give its folder by --mano" if mano is None else "another one"
        print(f"note: meshes do not fit, as these hands were made with {given}")
    server, scene = serve(hands, model, pictures, host, port)
    where = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
    print(f"http://{where}:{server.get_port()} shows {folder}; Ctrl-C ends", flush=True)
    try:
        while True:
            scene.tick()
            time.sleep(TICK)
    finally:
        server.stop()
