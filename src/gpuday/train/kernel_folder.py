"""Whose folder the compiler's kernels come from.

`torch.compile` keeps kernels and precompiled headers in a folder of the shared folder for temporary files, under a name
that follows from the user's, and loads and runs what it finds there. It does not look who made the folder: whoever was
there first on a shared machine could have put code of their own in.
"""

import os
import stat
from pathlib import Path


def unsafe_folder() -> str:
    """Why that folder must not be used, or an empty string. It is made first where there is none, and closed to others.

    A folder that the user named with TORCHINDUCTOR_CACHE_DIR is the user's affair; the headers' is the same all the same.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return _claim(Path(default_cache_dir()))


def _claim(folder: Path) -> str:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return f"{folder} is a link, and kernels would be loaded from where it leads; remove it, or set TMPDIR"
        if found.st_uid != os.getuid():
            return f"{folder} is another user's, and kernels would be loaded from it; set TMPDIR to a folder of yours"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            folder.chmod(stat.S_IMODE(found.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    except OSError as error:
        return f"{folder} cannot be used for kernels: {error.strerror}"
    return ""
