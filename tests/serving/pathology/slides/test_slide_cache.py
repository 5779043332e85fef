"""Slides stay open while they are used, and are closed when they are idle or too many."""

from __future__ import annotations

import threading
import time

from PIL import Image

from serving.pathology.slides.slide_cache import SlideCache
from tests.datasets.slides.slide_files import CMU, painted


def test_slides_are_closed_when_there_are_too_many_or_they_are_idle(tmp_path):
    slides = SlideCache(lambda slide: slide, capacity=1, idle_seconds=0.3)
    names = []
    for index in range(2):
        names.append(tmp_path / f"{index}.png")
        Image.fromarray(painted(64, 48, index)).save(names[-1])
    with slides.lease(names[0], None) as first, slides.lease(names[1], None):
        assert len(slides) == 2  # one with a reader is never closed
        first.read(0, 0, (8, 8))
    assert len(slides) == 1
    deadline = time.monotonic() + 20
    while len(slides) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(slides) == 0
    slides.close()


def test_all_readers_of_a_slide_share_one_process(tmp_path):
    cache, slides = SlideCache(lambda slide: slide), []

    def read_slide() -> None:
        with cache.lease(CMU, None) as slide:
            slides.append(slide)

    threads = [threading.Thread(target=read_slide) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(slide) for slide in slides}) == 1
    cache.close()
