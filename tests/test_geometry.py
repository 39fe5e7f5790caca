"""The published crops, and the edge cases of maps, warps and flips.

parity_geometry.npz holds what the official data code computed for 33 rows of Penn Action: boxes (from 0), labels as the
code reads them, the augmentation, centre and scale before and after it, the affine map, the joints in the crop, and for
five rows every fifth pixel of the crop of a drawn frame.
"""
import zlib
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from ttp_nb.geometry import (apply_affine, box_to_center_scale, crop_affine, crop_outline, flip_center, flip_image, flip_kp,
                             invert_affine, to_image, to_tensor, warp, warp_batch)
from ttp_nb.skeletons import PENN13, TTPError

SIZE = 128,128


@pytest.fixture(scope='module')
def rows():
    with np.load(Path(__file__).with_name('parity_geometry.npz')) as d: return dict(d)


def augmented(d, i):
    "Centre, scale, labels and visibility of row i after its flip and scale."
    c,s = box_to_center_scale(d['box'][i])
    kp,vis,w = d['joints_label'][i],d['vis'][i],d['size'][i][0]
    if d['flip'][i]: c,kp = flip_center(c, w),flip_kp(kp, w, PENN13.flip)
    return c,s*d['mult'][i],kp,vis


def test_centre_and_scale_as_published(rows):
    for b,c,s in zip(rows['box'], rows['db_center'], rows['db_scale']):
        mine = box_to_center_scale(b)
        assert np.allclose(mine[0], c, atol=1e-9, rtol=0) and mine[1] == pytest.approx(s, abs=1e-12)


def test_augmented_centre_map_and_joints_as_published(rows):
    for i in range(len(rows['box'])):
        c,s,kp,vis = augmented(rows, i)
        assert np.allclose(c, rows['center'][i], atol=1e-9) and s == pytest.approx(rows['scale'][i])
        M,ref = crop_affine(c, s, SIZE, rows['rot'][i]),rows['trans'][i]
        # the official map is solved from float32 points: relative where the box is a point and the map is huge
        assert (abs(M-ref) <= 1e-4*np.maximum(1, 5*abs(ref)*(s<.01))).all(), i
        if s>.01: assert np.allclose(apply_affine(M, kp)[vis], rows['joints'][i][vis], atol=1e-4)


def drawn(video, frame, w, h):
    "The frame of smooth waves that the crops were taken from."
    g = np.random.default_rng(int(video)*1000+int(frame))
    f,ph,am = g.integers(0,16,(3,12,2)),g.uniform(0,2*np.pi,(3,12)),g.uniform(5,15,(3,12))
    X,Y = np.meshgrid(np.arange(w)/w, np.arange(h)/h)
    ch = [128+sum(am[c,k]*np.sin(2*np.pi*(f[c,k,0]*X+f[c,k,1]*Y)+ph[c,k]) for k in range(12)) for c in range(3)]
    return np.rint(np.clip(np.stack(ch, -1), 0, 255)).astype(np.uint8)


def test_crops_as_published(rows):
    for i,crc,ref in zip(rows['crop_rows'], rows['crop_crc'], rows['crops']):
        img = drawn(rows['video'][i], rows['frame'][i], *rows['size'][i])
        assert zlib.crc32(img.tobytes())==crc
        if rows['flip'][i]: img = flip_image(img)
        c,s,_,_ = augmented(rows, i)
        crop = warp(img, crop_affine(c, s, SIZE, rows['rot'][i]), SIZE)[2::5,2::5].astype(int)
        assert abs(crop-ref).max()<=2 and abs(crop-ref).mean()<.3, i   # older OpenCV: fixed-point weights


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
    with pytest.raises(TTPError, match='one map for each'): warp_batch([img], np.zeros((2,2,3)), SIZE)
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
