"Painting: every skin in every wardrobe, people of every look, places, things in front."
import numpy as np
import pytest

from ttp_nb.basics import rng_for
from ttp_nb.drawn_bodies import ACTIONS, FAMILIES, perform
from ttp_nb.drawn_scenes import (
    HAIRSTYLES, PLACES, draw_person, make_look, paint_occluder, paint_place, prop_parts)

SETS = [dict.fromkeys(FAMILIES, k) for k in (0, 1)]
LIGHT = np.array([.4, -.4, .82, .6])


def test_skin_of_every_tone_in_every_wardrobe():
    tones = [{int(make_look(rng_for(0, n), sets).skin[1])//30 for n in range(60)} for sets in SETS]
    assert tones[0] == tones[1] and len(tones[0]) >= 5


def test_places():
    for p in PLACES:
        img = paint_place(rng_for(3, p), p, 90, (128, 96))
        assert img.shape == (128, 160, 3) and img.std() > 8


def test_every_hairstyle_is_worn():
    looks = [make_look(rng_for(0, n), SETS[0]) for n in range(120)]
    assert {look.hairstyle for look in looks} == set(HAIRSTYLES)
    assert any(look.cap is not None for look in looks) and any(look.skirt for look in looks)


@pytest.mark.parametrize('action', ACTIONS)
def test_a_person_is_painted_where_the_figure_is(action):
    looks = [make_look(rng_for(0, 'people', n), SETS[n % 2]) for n in range(3)]
    for n, look in enumerate(looks):
        figure, phase, left_handed = perform(rng_for(n, action), action, look.body, np.arange(5), (128, 96))
        img = np.full((96, 128, 3), 300., np.float32)  # no paint is as bright
        held = prop_parts(action, figure[4], np.float32([200, 40, 40]), left_handed, phase[4])
        draw_person(img, look, figure[4], LIGHT, held)
        painted = (img != 300).any(-1)
        assert np.isfinite(img).all() and .01 < painted.mean() < .9
        inside = [(x, y) for x, y, _ in figure.points[4, :13] if 1 <= x < 126 and 1 <= y < 94]
        near = [painted[int(y) - 1:int(y) + 3, int(x) - 1:int(x) + 3].any() for x, y in inside]
        assert np.mean(near) == 1 and len(near) > 5
        far = figure[4:].moved(np.array([[500., 0]]))[0]
        beside = np.full((96, 128, 3), 300., np.float32)
        draw_person(beside, look, far, LIGHT)  # who is out of the picture leaves it alone
        assert (beside == 300).all()


def test_what_stands_in_front_stands_where_the_person_is():
    figure, *_ = perform(rng_for(0), 'squat', make_look(rng_for(1), SETS[0]).body, np.arange(9), (256, 192))
    found = [paint_occluder(rng_for(0, 'occluder', n), figure, (256, 192)) for n in range(300)]
    some = [layers for layers in found if layers is not None]
    assert 30 < len(some) < 80
    for img, mask in some:
        assert img.shape == (224, 288, 3) and mask.shape == (224, 288) and img.dtype == mask.dtype == np.uint8
        x = np.flatnonzero((mask > 127).any(0)) - 16
        assert x.min() < figure.points[..., 0].max() + .4*figure.height
        assert x.max() > figure.points[..., 0].min() - .4*figure.height
