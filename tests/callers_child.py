"""What other processes do with a model; a module of its own, so that they can import it."""

import multiprocessing
import sys
from pathlib import Path

import torch

import fscs_sdk
from fscs_sdk import FewShotSegmenter

PHOTOS = Path(fscs_sdk.__file__).parent / "assets" / "photos"
CAT = [str(PHOTOS / "cat_support.jpg"), str(PHOTOS / "cat_support_mask.png")]
PERSON = [str(PHOTOS / "person_support.jpg"), str(PHOTOS / "person_support_mask.png")]
QUERIES = [str(PHOTOS / name) for name in ("cat_query.jpg", "coffee.jpg", "person_query.jpg", "dog.jpg")]


def answer(arguments):
    """A model, a query and supports -> the scores."""
    model, query, supports = arguments
    return model.predict(query, supports).scores


def fork_after_use():
    """The parent computes with two threads inside operators, then forks: the children answer as it does."""
    torch.set_num_threads(2)
    model = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    supports = model.encode({"cat": CAT})
    expected = [model.predict(query, supports).present for query in QUERIES[:2]]
    global ask  # a forked child finds it by name, with the parent's model in it

    def ask(query):
        mapping = model.predict(query, {"cat": CAT}).present
        loaded = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32").predict(query, supports).present
        return model.predict(query, supports).present, mapping, loaded

    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map_async(ask, QUERIES[:2]).get(100)
    assert answers == [(present, present, present) for present in expected], answers
    assert torch.get_num_threads() == 2


if __name__ == "__main__":
    fork_after_use()
    sys.exit(0)
