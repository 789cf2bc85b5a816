"""Writes an image that needs no registry: one layer with a static busybox.

    image.py NAME BUSYBOX FILE
"""

import hashlib
import io
import json
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive(files):
    """A tar file of (name, content or None for a directory)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def main():
    name, busybox, target = sys.argv[1:]
    with open(busybox, "rb") as program:
        directories = [(name, None) for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "www")]
        layer = archive([*directories, ("bin/busybox", program.read())])
    machine = platform.machine()
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        # As the image of pods it does nothing, for a day.
        "config": {"Entrypoint": ["/bin/busybox", "sleep", "86400"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = [
        ("layer.tar", layer),
        ("config.json", json.dumps(config).encode()),
        ("manifest.json", json.dumps(manifest).encode()),
    ]
    with open(target, "wb") as image:
        image.write(archive(files))


main()
