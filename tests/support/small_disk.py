"""A file system of a few kilobytes, in a mount namespace of its own that ends with the command run in it."""

import functools
import shlex
import subprocess

from faulty_checkout import Checkout, Ended

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@functools.cache
def unavailable() -> str | None:
    """Why no such file system can be made here; None where it can."""
    try:
        done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no unshare (util-linux)"
    return None if done.returncode == 0 else f"user namespaces are not allowed: {done.stderr.strip()}"


def run_in(checkout: Checkout, steps: list[str], back: list[str]) -> list[Ended]:
    """Run shell commands in a copy of the checkout, $PLACE/checkout, on a file system in memory; each one's end.

    Steps may use these functions: `leave K` leaves K kilobytes free, `inodes N` N inodes, and `room` gives back all;
    `own DIR` first gives a folder a file system of its own, to which the others then refer. `back` are paths that the
    checkout gets from the copy.
    """
    place = checkout.folder.parent / "disk"
    place.mkdir(exist_ok=True)
    logs = checkout.folder.parent / "steps"
    logs.mkdir(exist_ok=True)
    for old in logs.iterdir():
        old.unlink()
    script = f"""
set -e
PLACE={shlex.quote(str(place))}
DISK="$PLACE"
leave() {{ mount -o remount,size=$(( $(df -k --output=used "$DISK" | tail -1) + $1 ))k "$DISK"; }}
inodes() {{ mount -o remount,nr_inodes=$(( $(df --output=iused "$DISK" | tail -1) + $1 )) "$DISK"; }}
room() {{ mount -o remount,size=4g,nr_inodes=1000000 "$DISK"; }}
own() {{ DISK="$PLACE/checkout/$1"; mkdir -p "$DISK"; cp -a "$DISK" "$PLACE/tmp/own"
  mount -t tmpfs -o size=4g,nr_inodes=1000000 none "$DISK"; cp -a "$PLACE/tmp/own/." "$DISK/"; }}
mount -t tmpfs -o size=4g,nr_inodes=1000000 none "$PLACE"
cp -a {shlex.quote(str(checkout.folder))} "$PLACE/checkout"
cp -a {shlex.quote(str(checkout.folder.parent / "mirror"))} "$PLACE/mirror"
mkdir "$PLACE/tmp"
export TMPDIR="$PLACE/tmp" DVC_SITE_CACHE_DIR="$PLACE/site-cache" TRANSFORMER_MIRROR="$PLACE/mirror"
cd "$PLACE/checkout"
set +e
"""
    for number, step in enumerate(steps):
        log = shlex.quote(str(logs / str(number)))
        script += f"{{ {step}\n}} > {log} 2>&1; echo $? > {log}.rc\n"
    for path in back:
        target = shlex.quote(str(checkout.folder / path))
        script += f"rm -rf {target}; mkdir -p $(dirname {target}); cp -a {shlex.quote(path)} {target}\n"
    ended = checkout.ended([*NAMESPACE, "sh", "-c", script])
    assert ended.status == 0, ended.printed
    return [
        Ended(int((logs / f"{number}.rc").read_text()), (logs / str(number)).read_text())
        for number in range(len(steps))
    ]
