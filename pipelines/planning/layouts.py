"""The layouts of published data sets: how the path of a film says who is in it.

One entry is one data set, from its own documents and scripts (`source`). docs/how-to/data-sets.md is the table for
users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

LayoutName = Literal[
    "auto",
    "voxceleb",
    "fomm",
    "talkinghead1kh",
    "hdtf",
    "celebv-hq",
    "celebv-text",
    "lrs",
    "vfhq",
    "crema-d",
    "mead",
    "ravdess",
    "grid",
    "frames",
    "flat",
    "manifest",
]

TRAIN = "train-folder"
"""Marks films of a folder for training. They are divided into train and val like those of a corpus without folders,
unless the corpus has people for validation; an identity that is held out stays held out."""

SPLIT_FOLDERS: Mapping[str, str | None] = MappingProxyType(
    {
        "train": TRAIN,
        "training": TRAIN,
        "trainval": TRAIN,
        "pretrain": TRAIN,
        "dev": None,
        "val": "val",
        "valid": "val",
        "validation": "val",
        "test": "test",
    }
)
"""Names of folders that are splits, never people; the split of the films in them. `dev` is VoxCeleb's name for all
that is not for testing; in other sets it means validation, so it says nothing."""

_YOUTUBE_ID = r"[\w-]{11}"
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Layout:
    """The layout of one data set."""

    name: LayoutName
    source: str
    """Where the layout is described, or the script that makes it."""
    licence: str
    pattern: str
    """Regular expression for the end of a film's path, from the start of a folder's or file's name, without suffix."""
    identity: str
    """Template over the pattern's groups. Where several people may appear under one number (a video of YouTube, a
    broadcast), that number is the identity, so that none of them is in two splits."""
    video: str
    """Template, unique within the identity. Episodes take all their frames from one video."""
    clip: str = "0"
    """Template, unique within the video."""
    identity_from: str = "the file names"
    sign: str | None = None
    """Regular expression for paths that tells this set from others whose names the pattern fits, too. `auto` needs it
    in at least `sign_share` of the films, or the annotations."""
    sign_share: float = 0.0
    has_frames: bool = False
    """Whether the set also comes as folders of frames."""
    skipped: frozenset[str] = frozenset()
    """Folders of raw and intermediate films, beside those of the clips."""
    splits: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Folders of a split under the set's own names, besides `SPLIT_FOLDERS`."""
    lists: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Files in SRC that list films as FOLDER/NAME, one a line; their split."""
    annotations: str | None = None
    """JSON file in SRC with the YouTube id, span and box of each clip."""

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """The pattern, compiled for whole paths."""
        return re.compile(rf"(?:.*/)?{self.pattern}", re.DOTALL)

    @cached_property
    def sign_expression(self) -> re.Pattern[str]:
        """The sign, compiled for the beginning of paths; without one, every film has it."""
        return re.compile(self.sign or "", re.DOTALL)

    def names(self, stem: str) -> tuple[str, str, str] | None:
        """Return identity, video and clip of the film with this path without suffix, or None if it does not fit."""
        match = self.expression.fullmatch(stem)
        if match is None:
            return None
        groups = match.groupdict("")
        identity, video, clip = (template.format_map(groups) for template in (self.identity, self.video, self.clip))
        return identity or video, video, clip


_CELEBV_PATTERN = rf"(?P<youtube>{_YOUTUBE_ID})_(?P<number>\d+)"
# Ids are random: 99 of 100 have small letters, and capitals behind the first letter; "participant_1" has none.
_CELEBV_SIGN = r"(?:.*/)?(?=[^/]*[a-z])[^/][^/]{0,9}[A-Z][^/]*_\d+"

LAYOUTS = (
    # load_videos.py writes train/ and test/ with PERSON#VIDEO#FIRST#LAST.mp4, or with --format .png a folder of that
    # name with 0000000.png and so on. Sets without person_id (TaiChi) have VIDEO#FIRST#LAST.mp4.
    Layout(
        name="fomm",
        source="https://github.com/AliaksandrSiarohin/video-preprocessing/blob/master/load_videos.py",
        licence="VoxCeleb: CC BY 4.0 for the annotations; the videos belong to their authors",
        pattern=r"(?:(?P<person>[^#/]+)#)?(?P<youtube>[^#/]+)#(?P<first>\d{1,9})#(?P<last>\d{1,9})",
        identity="{person}",
        video="{youtube}",
        clip="{first}#{last}",
        has_frames=True,
    ),
    # videos_crop.py: {train,val,small}/cropped_clips/YOUTUBE_CHUNK_S_E_L_T_R_B.mp4; CHUNK counts the minutes.
    Layout(
        name="talkinghead1kh",
        source="https://github.com/tcwang0509/TalkingHead-1KH/blob/main/videos_crop.py",
        licence="CC BY 3.0",
        pattern=rf"(?P<youtube>{_YOUTUBE_ID})_(?P<take>\d{{4}}_S\d+_E\d+_L\d+_T\d+_R\d+_B\d+)",
        identity="{youtube}",
        video="{take}",
        identity_from="the YouTube ids in the file names",
        skipped=frozenset({"raw_videos", "1min_clips"}),
    ),
    # README.md: NAME_CLIP.mp4; download.py: {RD,WDA,WRA}_NAME_CLIP.mp4. A person with several videos has a digit at the
    # end (AmyKlobuchar0, AmyKlobuchar1); Radio1 to Radio59 are different people.
    Layout(
        name="hdtf",
        source="https://github.com/MRzzm/HDTF/blob/main/download.py",
        licence="CC BY 4.0 for the annotations; the videos belong to their authors",
        pattern=(
            r"(?P<video>(?:(?:RD|WDA|WRA)_)?(?P<person>Radio\d+|[A-Z][A-Za-z]*[a-z][A-Za-z]*(?:-[A-Za-z]+)*?)\d*)"
            r"_(?P<clip>\d{1,3})"
        ),
        identity="{person}",
        video="{video}",
        clip="{clip}",
        sign=r"(?:.*/)?(?:(?:RD|WDA|WRA)_|Radio\d+_)",
        skipped=frozenset({"_videos_raw"}),
    ),
    # download_and_process.py: processed/YOUTUBE_NUMBER.mp4 of raw/YOUTUBE.mp4; boxes are fractions of the frame.
    Layout(
        name="celebv-hq",
        source="https://github.com/CelebV-HQ/CelebV-HQ/blob/main/download_and_process.py",
        licence="non-commercial research only; the videos belong to their authors",
        pattern=_CELEBV_PATTERN,
        identity="{youtube}",
        video="{number}",
        identity_from="the YouTube ids",
        sign=_CELEBV_SIGN,
        sign_share=0.9,
        annotations="celebvhq_info.json",
    ),
    # As CelebV-HQ; boxes are pixels of the raw video.
    Layout(
        name="celebv-text",
        source="https://github.com/celebv-text/CelebV-Text/blob/main/download_and_process.py",
        licence="non-commercial research only; the videos belong to their authors",
        pattern=_CELEBV_PATTERN,
        identity="{youtube}",
        video="{number}",
        identity_from="the YouTube ids",
        sign=_CELEBV_SIGN,
        sign_share=0.9,
        annotations="celebvtext_info.json",
    ),
    # LRS3: {pretrain,trainval,test}/YOUTUBE/NUMBER.mp4. LRS2: mvlrs_v1/{main,pretrain}/BROADCAST/NUMBER.mp4, with
    # train.txt, val.txt and test.txt for main. The clips are crops of faces: the boxes of LRS3 do not fit them.
    Layout(
        name="lrs",
        source="https://www.robots.ox.ac.uk/~vgg/data/lip_reading/",
        licence="LRS3: CC BY-NC-ND 4.0; LRS2: the BBC's agreement for research",
        pattern=r"(?P<part>pretrain|trainval|test|main)/(?P<source>(?!id\d{5}/)[\w-]+)/(?P<number>\d{5})",
        identity="{source}",
        video="{part}-{number}",
        identity_from="the folders of one talk or broadcast each",
        lists=MappingProxyType({"train.txt": TRAIN, "val.txt": "val", "test.txt": "test"}),
    ),
    # Clip+YOUTUBE+P<person>+C<clip>+F<first>-<last>: a folder of frames, or a film made of it.
    Layout(
        name="vfhq",
        source="https://liangbinxie.github.io/projects/vfhq/",
        licence="as its page says; the videos belong to their authors",
        pattern=rf"Clip\+(?P<youtube>{_YOUTUBE_ID})\+(?P<person>P\d+)\+(?P<clip>C\d+\+F\d+-\d+)",
        identity="{youtube}",
        video="{person}",
        clip="{clip}",
        identity_from="the YouTube ids in the names",
        has_frames=True,
        splits=MappingProxyType({"vfhq-test": "test", "vfhq_test": "test"}),
    ),
    # VideoFlash/ACTOR_SENTENCE_EMOTION_LEVEL.flv, actors 1001 to 1091.
    Layout(
        name="crema-d",
        source="https://github.com/CheyneyComputerScience/CREMA-D",
        licence="ODbL 1.0, contents DbCL 1.0",
        pattern=r"(?P<actor>1\d{3})_(?P<take>[A-Z]{3}_(?:ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2})",
        identity="{actor}",
        video="{take}",
    ),
    # PERSON/video/VIEW/EMOTION/level_N/NUMBER.mp4, actors M003 and so on, actresses W009 and so on.
    Layout(
        name="mead",
        source="https://github.com/uniBruce/Mead",
        licence="research only, by its terms of use",
        pattern=r"(?P<person>[MW]\d{3})/(?:video/)?(?P<view>\w+)/(?P<emotion>\w+)/(?P<level>level_\d)/(?P<number>\d+)",
        identity="{person}",
        video="{view}-{emotion}-{level}-{number}",
        identity_from="the folders",
    ),
    # MODALITY-CHANNEL-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR.mp4; modality 01 has sound, 02 is the same take
    # without.
    Layout(
        name="ravdess",
        source="https://zenodo.org/records/1188976",
        licence="CC BY-NC-SA 4.0",
        pattern=r"(?P<modality>0[12])-(?P<take>0[12]-0[1-8]-0[12]-0[12]-0[12])-(?P<actor>\d\d)",
        identity="Actor_{actor}",
        video="{take}",
        clip="{modality}",
    ),
    # s1/bbaf2n.mpg, s1/video/bbaf2n.mpg, s1/video/mpg_6000/bbaf2n.mpg, or a folder of frames s1/bbaf2n: six letters for
    # the words of the sentence (bin blue at f 2 now).
    Layout(
        name="grid",
        source="https://zenodo.org/records/3625687",
        licence="CC BY 4.0",
        pattern=r"(?P<talker>s\d{1,2})/(?:(?:video|videos|mpg_\w+)/)*(?P<sentence>[blps][bgrw][abiw][a-z][1-9z][anps])",
        identity="{talker}",
        video="{sentence}",
        identity_from="the folders",
        has_frames=True,
    ),
)
"""In the order in which `auto` tries them."""


def layout_named(name: str) -> Layout | None:
    """Return the entry of this name; None for the forms that are no data set: auto, voxceleb, frames, flat, manifest.

    VoxCeleb's tree is not an entry, since its files of boxes cut whole videos.
    """
    return next((layout for layout in LAYOUTS if layout.name == name), None)
