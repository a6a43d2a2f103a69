"""Boxes around text out of a map of probabilities, and lines to text. No network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inference_workers.backends.choose import ocr_reader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks import text_lines
from inference_workers.networks.text_boxes import Limits, boxes, components, convex_hull, in_order, reading_order, smallest_box
from schemas.errors import ModelRefused


def turned(centre: tuple[float, float], length: float, height: float, degrees: float) -> list[tuple[float, float]]:
    angle = math.radians(degrees)
    u, v = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return [tuple(np.array(centre) + a * length / 2 * u + b * height / 2 * v) for a, b in signs]


def a_map(*shapes: list[tuple[float, float]], level: float = 1.0) -> np.ndarray:
    picture = Image.new("F", (400, 200), 0.0)
    for corners in shapes:
        ImageDraw.Draw(picture).polygon(corners, fill=level)
    return np.asarray(picture)


@pytest.mark.parametrize("degrees", [0, 7, -30, 44, 80])
def test_the_box_of_a_turned_line_is_turned_like_it(degrees: float) -> None:
    wanted = in_order(np.array(turned((200, 100), 160, 20, degrees)))
    (box,) = boxes(a_map(turned((200, 100), 160, 20, degrees)), Limits(growth=0.0))
    np.testing.assert_allclose(box.corners(), wanted, atol=2.0)


def test_a_box_grows_by_its_area_and_perimeter() -> None:
    (narrow,) = boxes(a_map(turned((200, 100), 160, 20, 0)), Limits(growth=0.0))
    (grown,) = boxes(a_map(turned((200, 100), 160, 20, 0)), Limits(growth=2.0))
    width, height = 2 * narrow.halves
    np.testing.assert_allclose(grown.halves - narrow.halves, 2.0 * width * height / (2 * (width + height)))


def test_parts_that_touch_by_a_corner_are_one_and_others_are_not() -> None:
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 0] = True  # diagonal, and back
    mask[0, 4] = mask[1, 6] = True
    mask[3:6, 3] = mask[5, 3:8] = mask[3:6, 7] = True  # a U: its arms meet below
    found = [{tuple(map(int, point)) for point in part} for part in components(mask)]
    assert {(0, 0), (1, 1), (0, 2)} in found
    assert len(found) == 4
    assert any({(3, 3), (7, 3)} <= part for part in found)


def test_specks_leave_room_for_lines() -> None:
    specks = np.zeros((200, 400), np.float32)
    specks[:150:3, ::3] = 1.0
    specks[160:180, 100:300] = 1.0
    (box,) = boxes(specks, Limits(growth=0.0, most=100))
    np.testing.assert_allclose(box.centre, (199.5, 169.5))


def test_of_very_many_lines_the_largest_are_kept() -> None:
    many = np.zeros((200, 400), np.float32)
    for top in range(0, 200, 10):
        many[top : top + 6, : 100 + top] = 1.0
    kept = boxes(many, Limits(growth=0.0, most=3))
    assert sorted(float(box.centre[1]) for box in kept) == [172.5, 182.5, 192.5]


def test_faint_and_tiny_parts_are_no_text() -> None:
    faint = a_map(turned((200, 100), 160, 20, 0), level=0.4)
    assert boxes(faint, Limits()) == []
    assert boxes(a_map(turned((200, 100), 160, 1, 0)), Limits()) == []
    assert boxes(np.zeros((64, 64)), Limits()) == []
    assert len(boxes(a_map(turned((100, 50), 80, 10, 0), turned((100, 150), 80, 10, 0)), Limits())) == 2


def test_a_box_around_few_points() -> None:
    assert convex_hull(np.array([[0.0, 0], [2, 0], [1, 1], [1, 3], [1, 1]])).tolist() == [[0, 0], [2, 0], [1, 3]]
    assert smallest_box(np.array([[3.0, 4]])).halves.tolist() == [0, 0]
    assert smallest_box(np.array([[0.0, 0], [3, 4]])).halves.tolist() == pytest.approx([2.5, 0])


def test_lines_are_read_from_the_top_and_a_row_from_the_left() -> None:
    def at(x: float, y: float) -> np.ndarray:
        return np.array([[x, y], [x + 50, y], [x + 50, y + 20], [x, y + 20]], float)

    assert reading_order([at(0, 100), at(80, 3), at(0, 0), at(160, -2)]) == [2, 1, 3, 0]
    assert reading_order([]) == []


def test_ctc_leaves_out_blanks_and_repetitions() -> None:
    best = [0, 1, 1, 0, 1, 2, 2, 0]  # blank a a blank a b b blank
    probabilities = np.full((8, 3), 0.1)
    probabilities[range(8), best] = [0.9, 0.6, 0.7, 0.9, 0.8, 0.5, 0.9, 0.9]
    text, probability = text_lines.decoded(probabilities, ["a", "b"])
    assert (text, round(probability, 3)) == ("aab", round((0.6 + 0.8 + 0.5) / 3, 3))
    assert text_lines.decoded(np.array([[0.9, 0.1]]), ["a"]) == ("", 0.0)


def test_a_line_is_cut_out_upright_at_the_height_of_the_network() -> None:
    picture = Image.new("RGB", (400, 200), "white")
    corners = in_order(np.array(turned((200, 100), 160, 20, 20)))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], fill="black")
    line = text_lines.cut_out(picture, corners)
    assert (line.height, round(line.width / line.height)) == (text_lines.HEIGHT, 8)
    assert np.asarray(line).mean() < 15
    down = text_lines.cut_out(picture, in_order(np.array(turned((200, 100), 160, 20, 90))))
    assert down.height == text_lines.HEIGHT < down.width
    assert text_lines.batch([line, down], 320, 3_200).shape == (2, 3, text_lines.HEIGHT, max(320, line.width, down.width))


def test_a_folder_that_is_none_of_this_kind_is_refused(tmp_path: Path) -> None:
    for config in ({"network": "convnet"}, {"network": "pp-ocr"}):
        with pytest.raises(ModelRefused):
            ocr_reader(ModelFolder(tmp_path, "m", "1", "", config, {}))


def test_no_part_of_the_mask_is_lost() -> None:
    rng = np.random.default_rng(5)
    mask = rng.random((40, 50)) < 0.35
    ends = {tuple(map(int, point)) for part in components(mask) for point in part}
    starts = {(x, y) for y, x in zip(*np.nonzero(mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]), strict=True)}
    assert starts <= ends
    sizes = sorted(len(part) for part in components(mask))
    assert sum(sizes) == 2 * len(starts)
