"""What a process and its children did: sockets of the internet, names looked up, programs started, files written to.

Installed as `sitecustomize` of every Python process that has the folder on PYTHONPATH: see `install`. Python's own audit
hook sees it all, whatever library asked; sockets and look-ups are refused as well. What a library writes without Python,
as safetensors does, shows in a listing of the folders only.
"""

import os
from pathlib import Path

_SITECUSTOMIZE = """
import os, sys

LOG = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NETWORK = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request")

def note(kind, what):
    os.write(LOG, f"{kind}\\t{what!r}\\n".encode())

def witness(event, args):
    if event in NETWORK:
        note("network", (event, args[0]))
        raise OSError("the network is not there")
    elif event == "socket.__new__" and args[1] in (2, 10):  # AF_INET, AF_INET6
        note("network", (event, args[1]))
        raise OSError("the network is not there")
    elif event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITES:
        note("write", os.path.abspath(os.fsdecode(args[0])))
    elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        paths = args[1:2] if event in ("os.rename", "os.link", "os.symlink") else args[:1]
        note("write", os.path.abspath(os.fsdecode(paths[0])) if isinstance(paths[0], (str, bytes)) else paths[0])
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        note("program", os.path.basename(os.fsdecode(args[0] if args[0] else args[1][0])))
    elif event in ("os.system", "pty.spawn"):
        note("shell", args[0])
    elif event == "pickle.find_class":
        note("pickle", args)

sys.addaudithook(witness)
"""


def install(folder: Path) -> dict[str, str]:
    """Write the hook into a folder; the variables that a process needs to be watched by it."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"PYTHONPATH": str(folder), "WITNESS_LOG": str(folder / "log"), "PYTHONDONTWRITEBYTECODE": "1"}


def seen(folder: Path, kind: str) -> list[str]:
    """What was noted of a kind, in order, each once."""
    lines = [line.partition("\t") for line in (folder / "log").read_text().splitlines()]
    return list(dict.fromkeys(what for found, _, what in lines if found == kind))


def listing(folder: Path) -> set[str]:
    """Everything in a folder, by its path from there; links are not followed."""
    return {
        os.path.relpath(os.path.join(at, name), folder)
        for at, dirs, files in os.walk(folder)
        for name in [*dirs, *files]
    }
