"""Training sets painted over an OME-Zarr plate: the fields that hold a label are the images, the label their masks.

Any plate of OME-Zarr 0.4 or 0.5 will do, with whatever axes; nothing is written. Every painted plane of every time
point is an image of its own.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from plateline.errors import ModelError


def read_painted(plate: str, label: str, channel: str) -> tuple[list[dict], list[dict]]:
    """Images of a plate and the masks that were painted over them.

    Parameters
    ----------
    plate : str
        Folder of the plate.
    label : str
        Name of the label images, as under `labels/` of each field; 0 is background.
    channel : str
        Channel of the images; may be empty where there is one.

    Returns
    -------
    pairs : list of dict
        `name` (path of the field; of several planes also which), `well` (its path), `image` (Y, X), `labels` (Y, X)
        int32, sorted by name.
    left_out : list of dict
        `name` and `reason` of every field that is no pair.

    Raises
    ------
    ModelError
        If no pair is left, or the channel is not one of the plate's.
    """
    import zarr  # takes 0.3 s, and only a training needs it here

    pairs, left_out = [], []
    root = zarr.open_group(plate, mode="r")
    for name in _fields(root):
        found, reason = _painted(root, name, label, channel)
        pairs += found
        left_out += [{"name": name, "reason": reason}] if reason else []
    if not pairs:
        reasons = "; ".join(sorted({row["reason"] for row in left_out})) or "no field"
        msg = f"no training image in plate {plate} with a mask under labels/{label}: {reasons}"
        raise ModelError(msg)
    return pairs, left_out


def _fields(root) -> Iterator[str]:
    """Paths of all fields that the plate's metadata name, sorted."""
    wells = sorted(well["path"] for well in _metadata(root).get("plate", {}).get("wells", []))
    for well in wells:
        images = _metadata(root[well])["well"]["images"] if well in root else []
        yield from (f"{well}/{path}" for path in sorted(image["path"] for image in images))


def _metadata(group) -> dict:
    """OME metadata of a group, wherever its version keeps them."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _painted(root, name: str, label: str, channel: str) -> tuple[list[dict], str]:
    """The painted planes of a field, or why it has none."""
    if name not in root:
        return [], "the field is missing"
    if f"{name}/labels/{label}" not in root:
        return [], "image without a mask"
    field, painted = root[name], root[f"{name}/labels/{label}"]
    masks = _finest(painted, "tzyx")
    if not np.issubdtype(masks.dtype, np.integer):
        return [], f"mask of dtype {masks.dtype}; expected integers"
    if not masks.any():
        return [], "empty mask"
    pixels = _finest(field, "ctzyx")[_channel(field, name, channel)]
    if pixels.shape != masks.shape:
        return [], f"image of shape {pixels.shape} with a mask of shape {masks.shape} (t, z, y, x); expected the same"
    places = [place for place in np.ndindex(masks.shape[:2]) if masks[place].any()]
    names = [name if masks.shape[:2] == (1, 1) else f"{name} t{time} z{plane}" for time, plane in places]
    pairs = zip(names, places, strict=True)
    well = name.rpartition("/")[0]
    return [{"name": n, "well": well, "image": pixels[p], "labels": masks[p].astype(np.int32)} for n, p in pairs], ""


def _finest(group, order: str) -> npt.NDArray:
    """The full-size array of an image or label, its axes in the given order; those it lacks have length 1."""
    described = _metadata(group)["multiscales"][0]
    array = np.asarray(group[described["datasets"][0]["path"]][:])
    axes = [axis["name"] for axis in described["axes"]]
    missing = [axis for axis in order if axis not in axes]
    array = array[(np.newaxis,) * len(missing)]
    return array.transpose([[*missing, *axes].index(axis) for axis in order])


def _channel(field, name: str, channel: str) -> int:
    """Number of the wanted channel of a field."""
    names = [each.get("label", "") for each in _metadata(field).get("omero", {}).get("channels", [])]
    if not channel and len(names) <= 1:
        return 0
    if names.count(channel) != 1:
        found = ", ".join(names) or "none with a name"
        msg = f"segment.fit.channel: got {channel!r}; expected a channel of field {name} of the plate: {found}"
        raise ModelError(msg)
    return names.index(channel)
