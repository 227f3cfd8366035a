"""Find picture files in folders, and by patterns of paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xaimaps._images.decode import problem
from xaimaps._images.series import is_series
from xaimaps.errors import InputImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
"""The suffixes of pictures in a folder, in lower or upper case."""

VOLUME_SUFFIXES = (*SUFFIXES, ".nii", ".nii.gz", ".npy")
"""Those of volumes and clips."""


def find_pictures(
    paths: Iterable[Path],
    *,
    follow_symlinks: bool = False,
    output: Path | None = None,
    rank: int = 2,
) -> list[Path]:
    """Replace each folder by the pictures in it and its subfolders, and each pattern by files.

    Args:
        paths: files, which are returned unchanged even if they do not exist, folders, and patterns
            such as "scans/*.png", in which "**" stands for any folders.
        follow_symlinks: accept links to files outside of their folder.
        output: a folder that is written to, and not read where it is a subfolder.
        rank: the number of spatial axes: 3 for volumes, of which a folder of DICOM slices is one.

    Returns:
        The pictures, each once, in the order given; those of a folder or pattern by name.

    Raises:
        InputImageError: if a folder has no picture, cannot be read or has a link to outside, or if
            nothing matches a pattern.
    """
    found = (one for path in paths for one in _pictures_at(path, follow_symlinks, output, rank))
    return list(dict.fromkeys(found))


def is_several(path: object) -> bool:
    """Whether an argument is the path of a folder, or a pattern of paths that is no file."""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not name:  # an empty path would be the current folder
        return False
    return Path(name).is_dir() or (glob.has_magic(name) and not os.path.lexists(name))


def _pictures_at(path: Path, follow_symlinks: bool, output: Path | None, rank: int) -> list[Path]:
    if not is_several(path):
        return [path]
    if not path.is_dir():
        return _matching(str(path))
    pictures = list(walk(path, output, rank))
    if not pictures:
        raise InputImageError(
            f"no pictures in {str(path)!r} or its subfolders ({' '.join(_suffixes(rank))}); name "
            "the files, or the folder that contains them"
        )
    for link in [] if follow_symlinks else pictures:
        refuse_leaving(link, path)
    return pictures


def walk(folder: Path, output: Path | None = None, rank: int = 2) -> Iterator[Path]:
    """Yield the pictures in a folder and its subfolders by name, those of the folder first.

    Hidden files and folders are left out, and links to folders are not followed.

    Args:
        folder: where to look.
        output: a subfolder to leave out, into which overlays of the pictures are written.
        rank: the number of spatial axes; for 3, a folder of DICOM slices is yielded itself.

    Raises:
        InputImageError: a folder cannot be read.
    """
    for place, folders, names in os.walk(folder, onerror=_refuse):
        here = Path(place)
        folders[:] = sorted(
            n for n in folders if not n.startswith(".") and not _is(here / n, output)
        )
        if rank == 3 and is_series(here):
            yield here
        else:
            yield from (here / name for name in sorted(names) if has_picture_name(name, rank))


def _is(folder: Path, output: Path | None) -> bool:
    return output is not None and os.path.realpath(folder) == os.path.realpath(output)


def has_picture_name(name: str, rank: int = 2) -> bool:
    """Whether a file of a folder has the suffix of a picture or volume, and is not hidden."""
    return name.lower().endswith(_suffixes(rank)) and not name.startswith(".")


def _suffixes(rank: int) -> tuple[str, ...]:
    return VOLUME_SUFFIXES if rank == 3 else SUFFIXES


def refuse_leaving(path: Path, folder: Path) -> None:
    """Raise an InputImageError for a link to a file outside of the folder."""
    if not path.is_symlink():
        return
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise problem(
            str(path), f"a link out of its folder to {str(target)!r}", "pass --follow-symlinks"
        )


def _matching(pattern: str) -> list[Path]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - of any folder
    if not found:
        raise InputImageError(f"no pictures match {pattern!r}; check the pattern")
    return [Path(one) for one in found]


def _refuse(error: OSError) -> None:
    raise InputImageError(
        f"cannot read the folder {str(error.filename)!r} ({error.strerror}); change its permissions"
    ) from error
