"""Tiny videos for tests, written by OpenCV, and a camera that shows one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segmnv2.media.inputs import quiet

with quiet():  # before OpenCV opens the first video
    pass

RATE = 10.0
CODECS = {".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v"}


def pictures(count: int = 12, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Return RGB images of a bright square that moves over a colored background; red, green and blue differ."""
    found = []
    for number in range(count):
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = (160, 90, 30)
        left = 2 * number % (width - 12)
        picture[8:20, left : left + 12] = (240, 220, 40)
        found.append(picture)
    return found


def write_clip(path: Path, frames: Sequence[np.ndarray] | None = None, rate: float = RATE) -> Path:
    frames = pictures() if frames is None else frames
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, rate, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_recording(path: Path, times: Sequence[int], length: int | None, rate: float | None = None) -> Path:
    """Write a Matroska file like a screen recorder: any time stamps, in ms, with or without rate and length."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), RATE, (48, 32))
    for picture in pictures(len(times)):
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    content = bytearray(path.read_bytes())
    stated, duration = content.index(b"\x23\xe3\x83\x84"), content.index(b"\x44\x89\x88")
    if rate is None:
        content[stated : stated + 8] = b"\xec\x86" + bytes(6)  # void
    else:
        struct.pack_into(">I", content, stated + 4, round(1e9 / rate))
    if length is None:
        content[duration : duration + 11] = b"\xec\x89" + bytes(9)
    else:
        struct.pack_into(">d", content, duration + 3, length)
    place = content.index(b"\x1f\x43\xb6\x75")
    for number, time in enumerate(times):
        place = content.index(b"\x81" + struct.pack(">h", round(1000 * number / RATE)), place)
        struct.pack_into(">h", content, place + 1, time)
        place += 3
    path.write_bytes(content)
    return path


def decode(path: Path) -> list[np.ndarray]:
    """Return all frames as RGB, read by OpenCV."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    found: list[np.ndarray] = []
    while True:
        done, frame = capture.read()
        if not done:
            return found
        found.append(frame[..., ::-1].copy())


class Camera:
    """A substitute for OpenCV's capture, which shows a clip, repeatedly if endless."""

    def __init__(self, clip: Path, endless: bool = False) -> None:
        self.frames, self.place, self.endless = decode(clip), 0, endless

    def get(self, prop: int) -> float:
        return RATE if prop == cv2.CAP_PROP_FPS else -1.0

    def grab(self) -> bool:
        self.place += 1
        return self.endless or self.place <= len(self.frames)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, self.frames[(self.place - 1) % len(self.frames)][..., ::-1].copy()

    def release(self) -> None:
        self.frames = []
