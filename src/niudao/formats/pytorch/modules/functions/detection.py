"""What detectors do with boxes: keep the best, and pool the pixels inside."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of one box (4,) with others (n, 4), all (y1, x1, y2, x2); 0 where a box has no area."""
    height = (torch.minimum(box[2], boxes[:, 2]) - torch.maximum(box[0], boxes[:, 0])).clamp(min=0)
    width = (torch.minimum(box[3], boxes[:, 3]) - torch.maximum(box[1], boxes[:, 1])).clamp(min=0)
    area, areas = (box[2] - box[0]) * (box[3] - box[1]), (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    both = height * width
    return torch.where((area > 0) & (areas > 0), both / (area + areas - both), torch.zeros_like(both))


def non_max_suppression(boxes: Tensor, scores: Tensor, most: int, iou: float, score: float | None, centered: bool) -> Tensor:
    """The boxes that no better box of their class overlaps.

    Args:
        boxes: (batch, n, 4): two opposite corners y, x, y, x, or, if `centered`, the middle's x and y, width, height.
        scores: (batch, classes, n).
        most: How many boxes a class may keep.
        iou: A box that overlaps a better one by more than this is dropped.
        score: A box whose score is not above this is dropped; None keeps all.
        centered: How boxes are written.

    Returns:
        int64 (kept, 3): batch, class and box.
    """
    if centered:
        x, y, w, h = boxes.unbind(-1)
        boxes = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    else:
        corners = boxes.reshape(*boxes.shape[:2], 2, 2)
        boxes = torch.cat([corners.amin(2), corners.amax(2)], -1)
    found = []
    for batch in range(boxes.shape[0]):
        for kind in range(scores.shape[1]):
            order = torch.argsort(scores[batch, kind], descending=True, stable=True)
            if score is not None:
                order = order[scores[batch, kind][order] > score]
            kept = 0
            while order.numel() and kept < most:
                best, order = order[0], order[1:]
                found.append(torch.stack([torch.full_like(best, batch), torch.full_like(best, kind), best]))
                order = order[overlap(boxes[batch, best], boxes[batch, order]) <= iou]
                kept += 1
    return torch.stack(found) if found else torch.zeros(0, 3, dtype=torch.long, device=boxes.device)


def samples(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two neighbours of each place on an axis, and their weights; none beyond one element outside."""
    inside = ((place >= -1) & (place <= size)).to(place.dtype)
    place = place.clamp(min=0)
    low = place.floor().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    part = torch.where(low >= size - 1, torch.zeros_like(place), place - low)
    return low.long(), high.long(), (1 - part) * inside, part * inside


def roi_align(
    x: Tensor, rois: Tensor, batch: Tensor, height: int, width: int, sampling: int, scale: float, half_pixel: bool, mode: str
) -> Tensor:
    """Pixels inside regions, interpolated on a grid and pooled.

    Args:
        x: (N, C, H, W).
        rois: (n, 4): x1, y1, x2, y2 in the picture's pixels.
        batch: (n,): which picture of the batch each region lies in.
        height: Height of a pooled region.
        width: Its width.
        sampling: Samples along each side of a pooled pixel; 0 takes as many as it is wide.
        scale: Size of `x` over the picture's.
        half_pixel: Whether pixels have their middle at one half.
        mode: "avg" or "max" over a pooled pixel's samples.

    Returns:
        (n, C, height, width).
    """
    if not sampling and rois.shape[0] != 1:
        pooled = [roi_align(x, rois[i : i + 1], batch[i : i + 1], height, width, 0, scale, half_pixel, mode) for i in range(rois.shape[0])]
        return torch.cat(pooled) if pooled else x.new_zeros(0, x.shape[1], height, width)
    corners = rois * scale - (0.5 if half_pixel else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    extent = extent if half_pixel else extent.clamp(min=1)
    across, down = extent[:, 0] / width, extent[:, 1] / height
    nx = sampling or math.ceil(float(across[0]))
    ny = sampling or math.ceil(float(down[0]))
    if nx * ny <= 0:
        return x.new_zeros(1, x.shape[1], height, width)
    steps_x = (torch.arange(width * nx, device=x.device, dtype=x.dtype) + 0.5) / nx
    steps_y = (torch.arange(height * ny, device=x.device, dtype=x.dtype) + 0.5) / ny
    left, right, from_left, from_right = samples(start[:, :1] + across[:, None] * steps_x, x.shape[3])
    top, bottom, from_top, from_bottom = samples(start[:, 1:] + down[:, None] * steps_y, x.shape[2])
    which = batch.long()[:, None, None]
    taken = []
    for rows, row_weight in ((top, from_top), (bottom, from_bottom)):
        for columns, column_weight in ((left, from_left), (right, from_right)):
            pixels = x.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
            taken.append(pixels * (row_weight[:, :, None] * column_weight[:, None, :])[..., None])
    corner = torch.stack(taken)
    value = corner.sum(0) if mode == "avg" else corner.amax(0)
    value = value.reshape(rois.shape[0], height, ny, width, nx, x.shape[1])
    value = value.mean((2, 4)) if mode == "avg" else value.amax((2, 4))
    return value.permute(0, 3, 1, 2)


def max_roi_pool(x: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    """Largest pixel in each cell of regions.

    Args:
        x: (N, C, H, W).
        rois: (n, 5): which picture, then x1, y1, x2, y2 in the picture's pixels, both ends inside.
        height: Height of a pooled region.
        width: Its width.
        scale: Size of `x` over the picture's.

    Returns:
        (n, C, height, width); a cell without pixels is 0.
    """
    pooled = []
    for roi in rois.tolist():
        x1, y1, x2, y2 = (math.floor(abs(v * scale) + 0.5) * (1 if v >= 0 else -1) for v in roi[1:])
        down, across = max(y2 - y1 + 1, 1) / height, max(x2 - x1 + 1, 1) / width
        cells = []
        for i in range(height):
            top, bottom = (min(max(v + y1, 0), x.shape[2]) for v in (math.floor(i * down), math.ceil((i + 1) * down)))
            for j in range(width):
                left, right = (min(max(v + x1, 0), x.shape[3]) for v in (math.floor(j * across), math.ceil((j + 1) * across)))
                empty = bottom <= top or right <= left
                picture = x[int(roi[0])]
                cells.append(picture.new_zeros(x.shape[1]) if empty else picture[:, top:bottom, left:right].amax((1, 2)))
        pooled.append(torch.stack(cells, 1).reshape(x.shape[1], height, width))
    return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], height, width)
