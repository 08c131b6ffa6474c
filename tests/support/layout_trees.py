"""For each layout a tree with people in the wrong places and the plan that comes out, by hand; and what makes both.

Keys of a tree are paths; a path that ends with a slash stands for a folder of frames. Values are split, identity, video
and clip of a film, the content of a list, or None for a file that is no film.
"""

from pathlib import Path

from pipelines.planning.layouts import LayoutName
from pipelines.planning.plan import PlanConfig
from pipelines.planning.prepare import PlanRequest, Prepared, prepare

TREES: dict[str, dict[str, str | None]] = {
    # id10280 is published for testing and lies in train; id10001 lies in train and test.
    "fomm": {
        "train/id10001#7gWzIy6yIIk#000100#000200.mp4": "test id10001 7gWzIy6yIIk 000100#000200",
        "train/id10001#utrA-v8pPm4#000010#000110.mp4": "test id10001 utrA-v8pPm4 000010#000110",
        "train/id10002#0_laIeN-Q44#000010#000110.mp4": "train id10002 0_laIeN-Q44 000010#000110",
        "train/id10280#NXjT3732Ekg#001093#001192.mp4": "test id10280 NXjT3732Ekg 001093#001192",
        "test/id10001#7gWzIy6yIIk#000300#000400.mp4": "test id10001 7gWzIy6yIIk 000300#000400",
        "test/id10281#5Lsl9rDHPyA#000100#000200.mp4": "test id10281 5Lsl9rDHPyA 000100#000200",
        # as written with --format .png
        "train/id10003#5ablueV_1tw#000010#000110.mp4/0000000.png": None,
        "train/id10003#5ablueV_1tw#000010#000110.mp4/0000001.png": None,
        "train/id10003#5ablueV_1tw#000010#000110.mp4/": "train id10003 5ablueV_1tw 000010#000110",
    },
    # --Y9imYnfBw has clips in train and in val; a raw film lies beside. val has people, so train is train alone.
    "talkinghead1kh": {
        "train/cropped_clips/--Y9imYnfBw_0000_S0_E1227_L568_T86_R1382_B900.mp4": (
            "val --Y9imYnfBw 0000_S0_E1227_L568_T86_R1382_B900 0"
        ),
        "val/cropped_clips/--Y9imYnfBw_0003_S5_E105_L1_T2_R3_B4.mp4": "val --Y9imYnfBw 0003_S5_E105_L1_T2_R3_B4 0",
        "train/cropped_clips/5crEV5DbRyc_0009_S208_E307_L1058_T102_R1712_B756.mp4": (
            "train 5crEV5DbRyc 0009_S208_E307_L1058_T102_R1712_B756 0"
        ),
        "train/raw_videos/5crEV5DbRyc.mp4": None,
        "train/1min_clips/5crEV5DbRyc_0009.mp4": None,
    },
    # AmyKlobuchar0 and 1 are one woman, Radio1 and Radio11 two men; she lies in test once.
    "hdtf": {
        "WDA_AmyKlobuchar0_000.mp4": "test AmyKlobuchar WDA_AmyKlobuchar0 000",
        "test/WDA_AmyKlobuchar1_002.mp4": "test AmyKlobuchar WDA_AmyKlobuchar1 002",
        "RD_Radio1_000.mp4": "train Radio1 RD_Radio1 000",
        "RD_Radio11_000.mp4": "train Radio11 RD_Radio11 000",
        "WDA_LucilleRoybal-Allard_000.mp4": "train LucilleRoybal-Allard WDA_LucilleRoybal-Allard 000",
        "_videos_raw/WDA_AmyKlobuchar0.mp4": None,
    },
    # M2Ohb0FAaJU lies in two folders of emotions and once in test.
    "celebv-hq": {
        "happy/M2Ohb0FAaJU_1.mp4": "test M2Ohb0FAaJU 1 0",
        "test/M2Ohb0FAaJU_2.mp4": "test M2Ohb0FAaJU 2 0",
        "neutral/_0tf2n3rlJU_0.mp4": "train _0tf2n3rlJU 0 0",
        "neutral/_0tf2n3rlJU_12.mp4": "train _0tf2n3rlJU 12 0",
    },
    "celebv-text": {
        "celebvtext_info.json": None,
        "0-5BrmyFsYM_0.mp4": "train 0-5BrmyFsYM 0 0",
        "val/00-30GQl0TM_7.mp4": "val 00-30GQl0TM 7 0",
        "train/00-30GQl0TM_8.mp4": "val 00-30GQl0TM 8 0",
    },
    # A talk lies in trainval and test; a broadcast of LRS2 stands in train.txt, another one in test.txt.
    "lrs": {
        "pretrain/0af00UcTOSc/00001.mp4": "test 0af00UcTOSc pretrain-00001 0",
        "test/0af00UcTOSc/00002.mp4": "test 0af00UcTOSc test-00002 0",
        "trainval/3IBzKSzRpUQ/50001.mp4": "train 3IBzKSzRpUQ trainval-50001 0",
        "main/5535415699068794046/00001.mp4": "train 5535415699068794046 main-00001 0",
        "pretrain/6330311066473698535/00001.mp4": "test 6330311066473698535 pretrain-00001 0",
        "main/6330311066473698535/00018.mp4": "test 6330311066473698535 main-00018 0",
        "train.txt": "5535415699068794046/00001\n",
        "test.txt": "6330311066473698535/00018 NF\n",
    },
    # One video shows two people, P0 and P1, and lies in the set's own test folder, too.
    "vfhq": {
        "Clip+_-91nXXjrVo+P0+C0+F1537-1825/00000000.png": None,
        "Clip+_-91nXXjrVo+P0+C0+F1537-1825/00000001.png": None,
        "Clip+_-91nXXjrVo+P0+C0+F1537-1825/": "test _-91nXXjrVo P0 C0+F1537-1825",
        "VFHQ-Test/GT/Clip+_-91nXXjrVo+P1+C2+F10-90/00000000.png": None,
        "VFHQ-Test/GT/Clip+_-91nXXjrVo+P1+C2+F10-90/00000001.png": None,
        "VFHQ-Test/GT/Clip+_-91nXXjrVo+P1+C2+F10-90/": "test _-91nXXjrVo P1 C2+F10-90",
        "Clip+G0DGRma_p48+P0+C0+F11208-11383/0.jpg": None,
        "Clip+G0DGRma_p48+P0+C0+F11208-11383/1.jpg": None,
        "Clip+G0DGRma_p48+P0+C0+F11208-11383/": "train G0DGRma_p48 P0 C0+F11208-11383",
    },
    # Actor 1002 has films in train and in test.
    "crema-d": {
        "train/1001_DFA_ANG_XX.flv": "train 1001 DFA_ANG_XX 0",
        "train/1001_IEO_ANG_HI.flv": "train 1001 IEO_ANG_HI 0",
        "train/1002_DFA_NEU_XX.flv": "test 1002 DFA_NEU_XX 0",
        "test/1002_ITH_SAD_X.flv": "test 1002 ITH_SAD_X 0",
    },
    # M003 lies in validation and, with another view, in training.
    "mead": {
        "train/M003/video/front/angry/level_1/001.mp4": "val M003 front-angry-level_1-001 0",
        "val/M003/video/left_30/angry/level_1/001.mp4": "val M003 left_30-angry-level_1-001 0",
        "train/W009/video/front/neutral/level_1/040.mp4": "train W009 front-neutral-level_1-040 0",
        "train/W009/front/happy/level_3/002.mp4": "train W009 front-happy-level_3-002 0",
    },
    # Actor 12 lies in the folder of actor 01: the name counts. Actor 03 is in test.
    "ravdess": {
        "Actor_01/01-01-03-01-01-01-01.mp4": "train Actor_01 01-03-01-01-01 01",
        "Actor_01/02-01-03-01-01-01-01.mp4": "train Actor_01 01-03-01-01-01 02",
        "Actor_01/02-01-06-01-02-01-12.mp4": "train Actor_12 01-06-01-02-01 02",
        "test/Actor_03/01-02-04-02-01-02-03.mp4": "test Actor_03 02-04-02-01-02 01",
        "Actor_03/01-01-04-02-01-02-03.mp4": "test Actor_03 01-04-02-01-02 01",
    },
    # s2 lies in training and test; s3 is a folder of frames, as Zenodo has them.
    "grid": {
        "s1/bbaf2n.mpg": "train s1 bbaf2n 0",
        "s1/video/mpg_6000/bbaf3s.mpg": "train s1 bbaf3s 0",
        "train/s2/video/lgwm5n.mpg": "test s2 lgwm5n 0",
        "test/s2/sgbp4s.mpg": "test s2 sgbp4s 0",
        "s3/pgwj3p/1.jpg": None,
        "s3/pgwj3p/2.jpg": None,
        "s3/pgwj3p/": "train s3 pgwj3p 0",
    },
    # id10280 is published for testing and lies in dev; id00012 lies in dev and test.
    "voxceleb": {
        "dev/mp4/id00012/vid-A/00001.mp4": "test id00012 vid-A 00001",
        "test/mp4/id00012/vid-A/00002.mp4": "test id00012 vid-A 00002",
        "dev/mp4/id10280/vid-B/00001.mp4": "test id10280 vid-B 00001",
        "dev/mp4/id00015/vid-C/00001.mp4": "train id00015 vid-C 00001",
    },
    # Folders of frames of any name; what lies below test is held out; a cover is no frame.
    "frames": {
        "ann/9.png": None,
        "ann/10.png": None,
        "ann/": "train ann ann 0",
        "test/bob/frame_0001.jpg": None,
        "test/bob/frame_0002.jpg": None,
        "test/bob/": "test test_bob test_bob 0",
        "ann/extra/cover.jpg": None,
    },
    # train, val and test are splits in a plain folder, too.
    "flat": {
        "train/ann.mp4": "train train_ann train_ann 0",
        "val/bob.mp4": "val val_bob val_bob 0",
        "test/cat.mov": "test test_cat test_cat 0",
        "dan.mp4": "train dan dan 0",
        "._dan.mp4": None,
        "__MACOSX/dan.mp4": None,
    },
}


def make(root: Path, tree: dict[str, str | None]) -> None:
    """Write the files below root/in, empty but for lists and JSON."""
    for name, content in tree.items():
        if not name.endswith("/"):
            path = root / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content or "" if path.suffix == ".txt" else "{}" if path.suffix == ".json" else "")


def plan(root: Path, layout: LayoutName = "auto", **more: object) -> Prepared:
    """Plan root/in without people held out by hash."""
    config = PlanConfig(val_fraction=0.0, test_fraction=0.0)
    request = PlanRequest(str(root / "in"), str(root / "out"), layout, {"clip": {}}, config, **more)  # type: ignore[arg-type]
    return prepare(request)


def rows(prepared: Prepared) -> dict[str, str]:
    """The plan in the form of the trees' values."""
    clips = (clip for clips in prepared.plan.all_clips() for clip in clips)
    return {clip.source: f"{clip.split} {clip.key.identity} {clip.key.video} {clip.key.clip}" for clip in clips}
