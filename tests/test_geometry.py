"""The published crops, and the edge cases of maps, warps and flips.

MADE holds boxes of nobody with centre, scale and map. The code that computed them agreed with the official code in all
rows of data_items.npz and data_items_outside.npz: what that code makes of real Penn Action labels. Those labels belong
to the data set and stay out of this repository; where the files are at hand, test_fidelity.py compares them again.
"""
import cv2, numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from scipy.ndimage import map_coordinates
from ttp_nb.geometry import (apply_affine, box_to_center_scale, crop_affine, crop_outline, flip_center, flip_image,
                             flip_kp, invert_affine, to_image, to_tensor, warp, warp_batch)
from ttp_nb.skeletons import PENN13
from ttp_nb.basics import TTPError

SIZE = 128,128
MADE = [ # box, frame's width, flip, rotation, scale factor; centre, scale; map
    ((10,20,110,260), 320, False, 0, 1, (59.5,157.575), 1.50625,
     [[.424896266,0,38.718672199], [0,.424896266,-2.953029046]]),
    ((10,20,110,260), 320, True, -35, 1.2, (59.5,157.575), 1.50625,
     [[.290045537,-.203092072,20.735416286], [.203092072,.290045537,-34.40631807]]),
    ((-40.5,3.25,199.5,90), 480, False, 60, .75, (79,64.2), 1.50625,
     [[.283264177,.490627947,10.123815842], [-.490627947,.283264177,84.574047615]]),
    ((300,100,301,400), 640, True, 12.5, .9, (300,272.075), 1.88125,
     [[.36903917,.081814014,-83.363826534], [-.081814014,.36903917,-8.671381314]]),
    ((55,66,56,66), 160, False, 0, 1, (55,65.65), .0125, [[51.2,0,-2752], [0,51.2,-3297.28]])]


@pytest.mark.parametrize('box,width,flip,rot,mult,center,scale,M', MADE)
def test_centre_scale_and_map_by_number(box, width, flip, rot, mult, center, scale, M):
    c,s = box_to_center_scale(box)
    assert np.allclose(c, center, atol=1e-9, rtol=0) and s == pytest.approx(scale, abs=1e-12)
    assert np.allclose(crop_affine(flip_center(c, width) if flip else c, s*mult, SIZE, rot), M, atol=2e-9, rtol=0)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 600), st.floats(0, 400), st.floats(.2, 4), st.floats(-90, 90),
       st.sampled_from([(64,64), (128,128)]))
def test_the_map_from_three_points(x, y, s, rot, size):
    "The published way: float32 points (the centre, half a width above it, and a corner), solved by OpenCV."
    r,(W,H) = np.deg2rad(rot),size
    up,side = 100*s*np.array([np.sin(r),-np.cos(r)]),100*s*np.array([-np.cos(r),-np.sin(r)])
    src = np.float32([[x,y], [x,y]+up, [x,y]+up+side])
    M = cv2.getAffineTransform(src, np.float32([[W/2,H/2], [W/2,H/2-W/2], [0,H/2-W/2]]))
    p = np.array([[x,y], [x+150*s,y], [x,y-150*s]])                  # where crops look
    assert np.allclose(apply_affine(crop_affine([x,y], s, size, rot), p), apply_affine(M, p), atol=2e-3)


def drawn(video, frame, w, h):
    "A frame of smooth waves, the one on which the official crops were computed."
    g = np.random.default_rng(int(video)*1000+int(frame))
    f,ph,am = g.integers(0,16,(3,12,2)),g.uniform(0,2*np.pi,(3,12)),g.uniform(5,15,(3,12))
    X,Y = np.meshgrid(np.arange(w)/w, np.arange(h)/h)
    ch = [128+sum(am[c,k]*np.sin(2*np.pi*(f[c,k,0]*X+f[c,k,1]*Y)+ph[c,k]) for k in range(12)) for c in range(3)]
    return np.rint(np.clip(np.stack(ch, -1), 0, 255)).astype(np.uint8)


@pytest.mark.parametrize('box,width,flip,rot,mult,center,scale,M', MADE)
def test_crops_are_bilinear(box, width, flip, rot, mult, center, scale, M):
    img = drawn(1, 0, width, 300)
    x,y = apply_affine(invert_affine(M), np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1)).transpose(2,0,1)
    ref = [map_coordinates(img[...,c].astype(float), [y,x], order=1, mode='grid-constant') for c in range(3)]
    crop = warp(img, M, SIZE).astype(int)
    d = abs(crop-np.stack(ref, -1))
    assert d.max()<=3 and d.mean()<.5                                      # older OpenCV: fixed-point weights


# --- edge cases

finite = st.floats(-500, 500)


@settings(deadline=None, max_examples=60)
@given(finite, finite, st.floats(.01, 10), st.floats(-180, 180), st.sampled_from([(64,64), (128,128), (96,128)]))
def test_there_and_back(x, y, scale, rot, size):
    M = crop_affine([x,y], scale, size, rot)
    kp = np.array([[[x,y], [0,0], [123.25,-7]]])
    assert np.allclose(apply_affine(invert_affine(M), apply_affine(M, kp)), kp, atol=1e-6)
    assert np.allclose(apply_affine(M, [x,y]), np.array(size)/2)
    assert np.linalg.norm(M[:,0]) == pytest.approx(size[0]/(200*scale))


def test_batches_of_maps():
    Ms = np.stack([crop_affine([10*i,5], 1+i, SIZE, 10*i) for i in range(4)])
    kp = np.random.default_rng(0).normal(size=(4,13,2))
    one = np.stack([apply_affine(m, k) for m,k in zip(Ms, kp)])
    assert np.allclose(apply_affine(Ms, kp), one)
    assert np.allclose(apply_affine(Ms, kp[:,0]), one[:,0])
    assert np.allclose(apply_affine(Ms, torch.from_numpy(kp)), one)
    assert np.allclose(apply_affine(invert_affine(Ms), one), kp)


def test_a_rectangular_crop_holds_the_box():
    for box in ([50,20,90,220], [10,100,210,130]):
        for size in ((96,128), (128,96), (128,128)):
            c,s = box_to_center_scale(box, aspect=size[0]/size[1])
            corners = apply_affine(crop_affine(c, s, size), np.array(box).reshape(2,2))
            assert (corners>=-.5).all() and (corners<=np.array(size)-.5).all()


@pytest.mark.parametrize('center,scale', [((5,5),0.), ((5,5),-1.), ((5,5),np.nan), ((np.nan,5),1.), ((5,np.inf),1.)])
def test_an_empty_box_is_refused(center, scale):
    with pytest.raises(TTPError, match='box'): crop_affine(center, scale, SIZE)


def test_outside_is_black_and_nan_stays_alone():
    img = np.full((40,50,3), 200, np.uint8)
    assert (warp(img, crop_affine([-500,-500], .2, SIZE), SIZE)==0).all()
    out = apply_affine(crop_affine([3,4], 1, SIZE), [[1,2],[np.nan,3],[5,np.nan]])
    assert np.isfinite(out[0]).all() and np.isnan(out[1:]).all()
    with pytest.raises(TTPError, match='one for each'): warp_batch([img], np.zeros((2,2,3)), SIZE)
    assert warp_batch([img,img[:20]], np.stack([crop_affine([25,20], .3, (16,24))]*2), (16,24)).shape==(2,24,16,3)


def test_outline_is_the_crop_border():
    M = crop_affine([60,40], .5, (64,32), 30)
    assert np.allclose(apply_affine(M, crop_outline(M, (64,32)))[[0,2]], [[-.5,-.5],[63.5,31.5]])


def test_mirrored_frame_gives_the_mirrored_crop_one_pixel_aside():
    img = np.random.default_rng(0).integers(0, 255, (80,100,3), dtype=np.uint8)
    M,Mm = crop_affine([40,30], .2, SIZE),crop_affine(flip_center([40,30], 100), .2, SIZE)
    a,b = warp(flip_image(img), Mm, SIZE),flip_image(warp(img, M, SIZE))
    assert abs(a[:,1:].astype(int)-b[:,:-1]).max()<=2
    kp = np.random.default_rng(1).uniform(0, 80, (5,13,2))
    assert (flip_kp(flip_kp(kp, 100, PENN13.flip), 100, PENN13.flip) == pytest.approx(kp))


@pytest.mark.parametrize('bgr', [False, True])
def test_normalised_and_back(bgr):
    x = np.random.default_rng(0).integers(0, 256, (2,8,12,3), dtype=np.uint8)
    t = to_tensor(x, bgr)
    ref = ((x[...,::-1] if bgr else x)/255-[.485,.456,.406])/[.229,.224,.225]
    assert t.dtype==torch.float32 and np.allclose(t.permute(0,2,3,1).numpy(), ref, atol=1e-6)
    assert (to_image(t, bgr)==x).all() and (to_image(t[0], bgr)==x[0]).all()
    assert to_image(t*100).dtype==np.uint8
    assert to_tensor(x[:,:,::-1]).shape==(2,3,8,12)  # negative strides
