"""Films that crash or hang the decoder's process: by their names, since no real one does it on every machine."""

from pathlib import Path

_POISON = '''
import os, sys, threading, time

def poison():
    """Once the child has its decoder, make two videos deadly to it."""
    while "pipelines.media.decoder.worker" not in sys.modules:
        time.sleep(0.001)
        if time.monotonic() > deadline:
            return
    from pipelines.media import video
    probe = video.probe
    def deadly(path):
        if "crash" in path.name:
            os.kill(os.getpid(), 11)
        if "hang" in path.name:
            time.sleep(10**6)
        return probe(path)
    video.probe = deadly

if sys.orig_argv[1:2] == ["-c"]:
    deadline = time.monotonic() + 60
    threading.Thread(target=poison, daemon=True).start()
'''


def write_poison(folder: Path) -> str:
    """Return an import path for decoder processes in which "crash" and "hang" in a film's name do as they say."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_POISON)
    return str(folder)
