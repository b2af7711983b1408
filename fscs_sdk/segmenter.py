"""The assembler: photos and supports in, predictions out."""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.devices import NOT_BY_FORK, choose_device, choose_dtype, settle_threads
from fscs_sdk.examination import NEGATIVES_PER_CLASS, Examination, Photos, examine
from fscs_sdk.images import ImageSource, close_up, read_image, resize_image, resize_mask
from fscs_sdk.model.correlation import Pyramid
from fscs_sdk.model.ifsl import PROTOCOLS, Inference, Protocol, infer
from fscs_sdk.model.network import FewShotNetwork, pair_bytes
from fscs_sdk.prediction import Prediction
from fscs_sdk.references.shots import read_shot
from fscs_sdk.streaming import Transfers, ahead, one_behind
from fscs_sdk.supports import Shot, SupportSet, digest, merge_thresholds, parse_supports
from fscs_sdk.weights import locate_model

#: Pairs in the head at once: enough to fill the device; on a CPU, whose cache holds one at best, one.
PAIRS_AT_ONCE = {"cpu": 1, "cuda": 32, "mps": 16}
#: Support photos in the backbone at once.
PHOTOS_AT_ONCE = 8
#: What a photo in a backbone takes, roughly: maps that are kept, and those of the stage that is computed.
BYTES_PER_PIXEL = 1000
#: What the photos in the backbone may take on a CPU, where large batches are no faster.
CPU_PHOTO_BYTES = 2**28
#: Bytes that may be in use at once where nothing else is said.
MAX_MEMORY = 4 * 10**9
#: Threads that decode a stream's photos for a GPU, and how many photos they may be ahead of the answers.
DECODERS, PHOTOS_AHEAD = 4, 8


@dataclass(frozen=True)
class EncodedQuery:
    """A query after its one pass through the backbone: ``pyramid`` maps (1, C_l, H, W); ``size`` (height, width)."""

    pyramid: list[list[Tensor]]
    size: tuple[int, int]


class FewShotSegmenter:
    """Answers which of some labelled classes are in a photo, and where (iFSL, ASNet).

    Make one with :meth:`from_pretrained`. It holds no results, and of supports at most a GPU's copy: the same
    call gives the same answer, whatever PyTorch's global settings are (default type and device, gradients, autocast).

    One model may be shared: any number of threads may call it at once. It can be copied, and pickled into a process
    that is spawned. A process that is forked after the model was loaded computes with one thread inside operators on a
    CPU, and is refused on a GPU: spawn it, or load the model in it.
    """

    def __init__(
        self,
        network: FewShotNetwork,
        *,
        name: str,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        protocol: Protocol | None = None,
        max_memory: int | None = None,
    ) -> None:
        """Wrap a loaded network.

        Args:
            network: is taken over: its parts are moved to the device and put into evaluation mode.
            name: what errors and support files call the model.
            device: ``auto`` (CUDA, else Apple's MPS, else CPU) or a torch device.
            dtype: ``float32``, ``bfloat16`` or ``float16``: to what the operands of products are rounded. On a CPU
                those of the correlations and of the head are, while residual sums, softmax, normalisations and the
                backbone stay in float32 (rounding the backbone alone would change 0.5 % of the presences); on other
                devices the backbone's too. ``auto`` is for ASNet bfloat16 on a CPU that multiplies it in hardware
                (AVX512-BF16, AMX), where it keeps 99.9 % of mask pixels, and float16 on CUDA, whose tensor cores all
                have it and whose rounding is eight times finer; else float32.
            protocol: ``paper`` or ``authors`` (see :mod:`fscs_sdk.model.ifsl`); by default what the head was trained
                for: ``authors`` for converted checkpoints, else ``paper``.
            max_memory: bytes that intermediate results may take at once, 4 GB if not given. Fewer photos and pairs are
                computed together where they would need more; answers stay the same. One at a time is always allowed.
                What is asked for (supports, and N maps of the photo's size) is not counted.

        Raises:
            ValueError: an unknown device, dtype or protocol, or a memory limit that is not above 0.
        """
        protocol = network.protocol if protocol is None else protocol
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r} is unknown; choose {' or '.join(PROTOCOLS)}")
        if max_memory is not None and max_memory <= 0:
            raise ValueError(f"max_memory is {max_memory}; it must be a number of bytes above 0, such as 2_000_000_000")
        settle_threads()
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, network, self.device)
        self.protocol: Protocol = protocol
        self.max_memory = MAX_MEMORY if max_memory is None else max_memory
        self.network = network
        for part in network.parts:
            part.to(self.device).eval()
        if self.device.type == "cuda":  # the layout that its convolutions want; photos enter in it
            network.backbone.to(memory_format=torch.channels_last)
        self._nearby: tuple[weakref.ref[SupportSet], SupportSet] | None = None
        self._process = os.getpid()
        self.identity = f"{name}@{network.identity()}"

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all but the supports that are near the device, and the process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_nearby", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _nearby=None, _process=os.getpid())

    def _settle(self) -> None:
        """Make this thread fit to compute, wherever it came from.

        Raises:
            ValueError: it is of a process that was forked, and the model is on a GPU.
        """
        settle_threads()
        if self._process != os.getpid() and self.device.type != "cpu":
            raise ValueError(f"the model's device {str(self.device)!r} {NOT_BY_FORK}")

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "asnet-mini",
        *,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        protocol: Protocol | None = None,
        backbone: str | os.PathLike[str] | None = None,
        max_memory: int | None = None,
    ) -> "FewShotSegmenter":
        """Load a model; the default, ``asnet-mini``, is part of the package and needs no network.

        Args:
            name: a name from :func:`fscs_sdk.list_models`; a folder with ``head.safetensors``; a head's
                ``.safetensors`` file; or ``org/repo``, a Hugging Face Hub repository with the same files. A
                ``backbone.safetensors`` beside the head is its backbone; else the manifest's sources are looked up.
            device: see :meth:`__init__`.
            dtype: see :meth:`__init__`.
            revision: of a Hub repository.
            cache_dir: of all downloads, as in ``huggingface_hub``; so are the next two.
            token: for private repositories.
            local_files_only: use no network.
            protocol: see :meth:`__init__`.
            backbone: a ``.safetensors`` file with the backbone's weights, in torchvision's or timm's names, to use in
                place of any other. A head refuses weights that it was not trained on.
            max_memory: see :meth:`__init__`.

        Raises:
            ValueError: no such model, or files that are damaged or do not fit together.
            OSError: files cannot be read or downloaded.
        """
        settle_threads()
        files = locate_model(
            name, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        network = load_network(
            files,
            backbone=None if backbone is None else Path(backbone),
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        called = os.path.basename(os.path.abspath(name)).removesuffix(".safetensors")
        return cls(network, name=called, device=device, dtype=dtype, protocol=protocol, max_memory=max_memory)

    def encode(
        self,
        supports: Mapping[str, object],
        *,
        threshold: float | Mapping[str, float] | None = None,
        calibrate: bool = False,
        negatives: Sequence[ImageSource] = (),
        negatives_per_class: int = NEGATIVES_PER_CLASS,
        progress: Callable[[int, int], object] | None = None,
    ) -> SupportSet:
        """Pass every support photo through the backbone, once; the result can be used any number of times, and saved.

        Args:
            supports: class name -> ``[image, mask]``, a :class:`Shot`, or a list of shots; N classes, K may differ.
                Where the model says so (those that ship do), a photo is cropped around an object that is small in it.
            threshold: delta of eq. 2 in [0, 1], for all classes or by name; for those not named, the model's own, or
                the calibrated one.
            calibrate: ask the photos about each other (:meth:`examine`) and set the threshold, the score's scale and
                the mask offset of every class that has two shots or for which there are negatives. Its scores then are
                probabilities that it is there. What thresholds and offsets rest on is in ``examination``.
            negatives: for ``calibrate``, photos that show none of the classes, in any form that a query may have.
            negatives_per_class: see :meth:`examine`.
            progress: with ``calibrate``, called with the pairs of photos that are asked and all of them.

        Raises:
            ValueError: a support or negative that cannot be used; the message names it. Negatives without
                ``calibrate``, or ``calibrate`` with ``protocol="authors"``, which decides shot by shot.
        """
        if not calibrate and negatives:
            raise ValueError("negatives serve to calibrate; encode with calibrate=True, or leave them out")
        if calibrate and self.protocol != "paper":
            raise ValueError("calibration is for the protocol 'paper'; the authors' program decides shot by shot")
        shots = parse_supports(supports)
        names = tuple(shots)
        own = self._own_thresholds(len(names))
        if threshold is not None:
            merge_thresholds(names, threshold, own)  # what cannot be is refused before the photos are read
        if calibrate:
            encoded = self._examine(shots, own, negatives, negatives_per_class, progress)
        else:
            encoded = self._encode_shots(shots, own, self._read_shots(shots))
        return encoded if threshold is None else encoded.with_thresholds(threshold)

    def examine(
        self,
        supports: Mapping[str, object],
        *,
        negatives: Sequence[ImageSource] = (),
        negatives_per_class: int = NEGATIVES_PER_CLASS,
        progress: Callable[[int, int], object] | None = None,
    ) -> Examination:
        """What do the shots say of each other: which is bad, and how far can each class's answers be trusted?

        Every shot is asked for its own class with the class's other shots as supports, and photos of other classes, and
        those that show none, for every class. See :class:`~fscs_sdk.examination.Examination` for what is found.

        Args:
            supports: a mapping as for :meth:`encode`.
            negatives: photos that show none of the classes, in any form that a query may have.
            negatives_per_class: at most so many photos of other classes, and so many negatives, are asked for a class.
            progress: called with the pairs of photos that are asked and all of them.

        Raises:
            ValueError: a support or negative that cannot be used; the message names it.
        """
        shots = parse_supports(supports)
        own = self._own_thresholds(len(shots))
        return cast(Examination, self._examine(shots, own, negatives, negatives_per_class, progress).examination)

    def _own_thresholds(self, ways: int) -> Tensor:
        return torch.full((ways,), self.network.threshold, dtype=torch.float32, device="cpu")

    def _examine(
        self,
        shots: Mapping[str, Sequence[Shot]],
        thresholds: Tensor,
        negatives: Sequence[ImageSource],
        negatives_per_class: int,
        progress: Callable[[int, int], object] | None,
    ) -> SupportSet:
        """Encode supports, ask their photos about each other and set what they say.

        A photo passes the backbone once, as support and as query together; once more as a query where it is cropped as
        a support, or where ``max_memory`` has no room for the queries of all.
        """
        if isinstance(negatives, (str, bytes, os.PathLike)):
            raise ValueError("negatives must be a list of photos; put a single one into a list")
        read = self._read_shots(shots, whole=True)
        others = [read_image(one, label=f"negative {number}") for number, one in enumerate(negatives, start=1)]
        wholes = [one.whole for one in read] + [self._resize(image) for image in others]
        queries: list[Pyramid] = []
        encoded = self._encode_shots(shots, thresholds, read, queries)
        near = self._near(encoded)
        kept = {index: query for index, query in enumerate(queries) if read[index].photo is read[index].whole}
        latest: dict[int, Pyramid] = {}  # of the photos that are not kept, the one that is being asked

        def ask(photo: int, asked: Sequence[int]) -> Tensor:
            query = kept.get(photo) or latest.get(photo)
            if query is None:
                latest.clear()
                query = latest[photo] = self._encode_inputs(self._to_input([wholes[photo]]), [(0, 0)])[0].pyramid
            logits = self._pair_logits(query, near, torch.tensor(asked, device="cpu")).float()
            return (logits[:, 1] - logits[:, 0]).cpu()

        photos = Photos(
            names=encoded.names,
            class_index=encoded.class_index.numpy(),
            tagged=encoded.tagged.numpy(),
            masks=np.stack([one.whole_mask for one in read]),
            marked=np.array([one.marked for one in read]),
            pixels=np.stack(wholes),
        )
        examination, settings = examine(
            photos, ask, delta=self.network.threshold, negatives_per_class=negatives_per_class, progress=progress
        )
        if settings.calibration is None:
            return replace(encoded, examination=examination)
        made_from = [encoded.source, "calibrated", str(negatives_per_class), *sorted(digest(image) for image in others)]
        return replace(
            encoded,
            thresholds=settings.thresholds,
            source=digest(*made_from),
            calibration=settings.calibration,
            examination=examination,
        )

    def _encode_shots(
        self,
        shots: Mapping[str, Sequence[Shot]],
        thresholds: Tensor,
        read: Sequence["_ReadShot"],
        queries: list[Pyramid] | None = None,
    ) -> SupportSet:
        """The support set of shots that were read; for ``queries`` see :meth:`_encode_photos`."""
        class_index = [index for index, class_shots in enumerate(shots.values()) for _ in class_shots]
        made_from = [str(self.network.threshold)]
        for name, one in zip((name for name, class_shots in shots.items() for _ in class_shots), read, strict=True):
            made_from += name, one.content
        return SupportSet(
            names=tuple(shots),
            class_index=torch.tensor(class_index, device="cpu"),
            features=self._encode_photos([one.photo for one in read], queries),
            masks=torch.from_numpy(np.stack([one.mask for one in read])),
            tagged=torch.tensor([one.tagged for one in read], device="cpu"),
            thresholds=thresholds,
            model=self.identity,
            source=digest(*made_from),
        )

    @overload
    def predict(
        self, query: list[Any] | tuple[Any, ...], supports: Mapping[str, object] | SupportSet
    ) -> list[Prediction]: ...

    @overload
    def predict(self, query: ImageSource, supports: Mapping[str, object] | SupportSet) -> Prediction: ...

    def predict(
        self,
        query: ImageSource | list[Any] | tuple[Any, ...],
        supports: Mapping[str, object] | SupportSet,
    ) -> Prediction | list[Prediction]:
        """Which of the supports' classes are in the photo, and where?

        Args:
            query: a photo as path, bytes, file object, PIL image, numpy array or torch tensor (see
                :func:`fscs_sdk.images.read_image`), or a list of photos.
            supports: a mapping as for :meth:`encode`, or what :meth:`encode` made of it.

        Returns:
            A :class:`Prediction` at the photo's own size; a list of them for a list of photos.

        Raises:
            ValueError: a photo or support that cannot be used, or supports encoded by another model.
        """
        encoded = self._encoded(supports)
        if isinstance(query, (list, tuple)):
            return list(self.stream(query, encoded))
        return self._predict(query, encoded, "the query")

    def check(self, supports: SupportSet) -> None:
        """Refuse supports that another model encoded.

        Raises:
            ValueError: they are not this model's.
        """
        if supports.model.rpartition("@")[2] != self.identity.rpartition("@")[2]:  # a copy may have another name
            raise ValueError(
                f"these supports were encoded by model {supports.model}, this is {self.identity}; "
                "encode the support photos again with this model"
            )
        if supports.calibration is not None and self.protocol != "paper":
            raise ValueError(
                "these supports are calibrated for the protocol 'paper', and the model follows 'authors'; "
                "encode them again without calibration"
            )

    def stream(
        self, queries: Iterable[ImageSource], supports: Mapping[str, object] | SupportSet
    ) -> Iterator[Prediction]:
        """Predictions for many photos, in order, one in memory at a time. Arguments and errors as :meth:`predict`.

        On CUDA photos are decoded up to eight ahead of the one that the device works on, and an answer is fetched once
        the next one's work has been given to it, so that it never waits. So ``queries`` must not wait for answers.
        """
        encoded = self._encoded(supports)
        numbered = ((query, f"query {number}") for number, query in enumerate(queries, start=1))
        if self.device.type == "cuda":
            return self._stream_ahead(numbered, encoded)
        return (self._predict(query, encoded, label) for query, label in numbered)

    def _stream_ahead(self, queries: Iterable[tuple[ImageSource, str]], supports: SupportSet) -> Iterator[Prediction]:
        """Nothing here waits for the device but the calls of what ``_begin`` returns."""
        transfers = Transfers(self.device)
        decoded = ahead(queries, self._decode, threads=DECODERS, most=PHOTOS_AHEAD)
        begun = (self._begin(image, resized, supports, transfers) for image, resized in decoded)
        return (fetch() for fetch in one_behind(begun))

    def _decode(self, query: tuple[ImageSource, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A photo and what errors call it -> the photo at its own size, and at the network's."""
        source, label = query
        image = read_image(source, label=label)
        return image, self._resize(image)

    def _begin(
        self, image: NDArray[np.uint8], resized: NDArray[np.uint8], supports: SupportSet, transfers: Transfers
    ) -> Callable[[], Prediction]:
        """Give the device all the work of a query; calling the result waits for the answer."""
        (query,) = self._encode_inputs(transfers.upload(resized[None]), [image.shape[:2]])
        return self._answer(image, query, supports, transfers)

    def encode_query(self, image: NDArray[np.uint8]) -> EncodedQuery:
        """A decoded photo, uint8 (H, W, 3) -> its pyramid: the half of a prediction that no support changes."""
        return self._encode_queries([image])[0]

    def predict_batch(
        self, images: Sequence[NDArray[np.uint8]], supports: Mapping[str, object] | SupportSet
    ) -> Iterator[Prediction]:
        """As :meth:`predict` for decoded photos, uint8 (H, W, 3) of any sizes, that pass the backbone together.

        Worth it where a device is not filled by one photo. The predictions are made one at a time, as they are asked
        for. Kernels may round differently in another batch size.

        Raises:
            ValueError: as :meth:`predict`.
        """
        encoded = self._encoded(supports)
        queries = self._encode_queries(images) if images else []
        transfers = Transfers(self.device)
        begun = (self._answer(image, query, encoded, transfers) for image, query in zip(images, queries, strict=True))
        return (fetch() for fetch in (one_behind(begun) if self.device.type == "cuda" else begun))

    def _encode_queries(self, images: Sequence[NDArray[np.uint8]]) -> list[EncodedQuery]:
        photos = self._to_input([self._resize(image) for image in images])
        return self._encode_inputs(photos, [image.shape[:2] for image in images])

    def _encode_inputs(self, photos: Tensor, sizes: Sequence[tuple[int, int]]) -> list[EncodedQuery]:
        """uint8 (B, side, side, 3) on the device -> B queries; ``sizes``: (height, width) that answers are to have."""
        self._settle()
        with self._autocast("backbone"):
            pyramid = self.network.encode_queries(photos.permute(0, 3, 1, 2))
        return [EncodedQuery(_one(pyramid, index, self.dtype), size) for index, size in enumerate(sizes)]

    def infer(self, query: EncodedQuery, supports: SupportSet) -> Inference:
        """The light half: one encoded query against encoded supports, as tensors on the model's device."""
        self._settle()
        supports = self._near(supports)
        logits = self._pair_logits(query.pyramid, supports)
        shots = torch.bincount(supports.class_index, minlength=len(supports)).tolist()
        with torch.inference_mode(), self._autocast("answer"):
            thresholds = supports.thresholds.to(self.device)
            return infer(
                torch.split(logits, shots),
                query.size,
                thresholds,
                protocol=self.protocol,
                calibration=supports.calibration,
            )

    def _pair_logits(self, query: Pyramid, supports: SupportSet, shots: Tensor | None = None) -> Tensor:
        """(P, 2, h, w) of a query with all shots of :meth:`_near`'s supports, or with those numbered in ``shots``."""
        features: Pyramid = supports.features
        masks = None if bool(supports.tagged.all()) else supports.masks
        if shots is not None:
            features = [[feature[shots.to(feature.device)] for feature in level] for level in features]
            masks = None if masks is None else masks[shots.to(masks.device)]
        most = PAIRS_AT_ONCE.get(self.device.type, 1)
        at_once = max(1, min(most, self.max_memory // pair_bytes(query, features)))
        with self._autocast("head"):
            return self.network.pair_logits(query, features, masks, at_once=at_once)

    def _predict(self, query: ImageSource, supports: SupportSet, label: str) -> Prediction:
        image = read_image(query, label=label)
        return self._answer(image, self.encode_query(image), supports, Transfers(self.device))()

    def _answer(
        self, image: NDArray[np.uint8], query: EncodedQuery, supports: SupportSet, transfers: Transfers
    ) -> Callable[[], Prediction]:
        """Give the device the light half of a query's work; calling the result waits for the answer."""
        answer = self.infer(query, supports)
        names, small = supports.names, len(supports) <= 255
        mask = answer.mask.to(torch.uint8 if small else torch.int32)
        fetch = transfers.download([answer.scores, answer.present, answer.foreground, answer.background, mask])

        def prediction() -> Prediction:
            scores, present, foreground, background, mask = fetch()
            return Prediction(
                names=names,
                scores=dict(zip(names, scores.tolist(), strict=True)),
                present=dict(zip(names, present.tolist(), strict=True)),
                foreground=foreground,
                background=background,
                mask=mask if small else mask.astype(np.uint16),
                image=image,
            )

        return prediction

    def _near(self, supports: SupportSet) -> SupportSet:
        """The same supports where a device finds them without waiting; what was asked for last is kept there.

        On the device itself, in the type of its products, where ``max_memory`` allows; else in pinned memory, from
        which a chunk is copied while the device works. A CPU takes them as they are.
        """
        if self.device.type == "cpu":
            return supports
        nearby = self._nearby  # once, and below the same: another thread may ask for other supports
        if nearby is None or nearby[0]() is not supports:
            room = sum(feature.numel() for level in supports.features for feature in level) * self.dtype.itemsize
            fits = room <= self.max_memory

            def place(feature: Tensor) -> Tensor:
                if fits:
                    return feature.to(self.device).to(self.dtype)
                feature = feature.to(self.dtype)
                return feature.pin_memory() if self.device.type == "cuda" else feature

            placed = replace(
                supports,
                features=tuple(tuple(place(feature) for feature in level) for level in supports.features),
                masks=supports.masks.to(self.device),
                thresholds=supports.thresholds.to(self.device),
                calibration=None if supports.calibration is None else supports.calibration.to(self.device),
            )
            self._nearby = nearby = weakref.ref(supports), placed
        return nearby[1]

    def _encoded(self, supports: Mapping[str, object] | SupportSet) -> SupportSet:
        if not isinstance(supports, SupportSet):
            return self.encode(supports)
        self.check(supports)
        return supports

    def _read_shots(self, shots: Mapping[str, Sequence[Shot]], *, whole: bool = False) -> list["_ReadShot"]:
        """All shots in their order; see :meth:`_read_shot`."""
        return [
            self._read_shot(shot, name, f"shot {number} of class {name!r}", whole=whole)
            for name, class_shots in shots.items()
            for number, shot in enumerate(class_shots, start=1)
        ]

    def _read_shot(self, shot: Shot, name: str, label: str, *, whole: bool) -> "_ReadShot":
        """A shot at the network's side; ``whole``: also as it is, where it is cropped around its object."""
        image, mask = read_shot(shot, name, label=label)
        side = self.network.input_side
        if mask is None:
            photo, everywhere = self._resize(image), np.ones((side, side), dtype=np.bool_)
            return _ReadShot(photo, everywhere, photo, everywhere, 1.0, True, digest(image))
        marked, content = float(mask.mean()), digest(image, mask)
        near, near_mask = close_up(image, mask, self.network.close_up)
        photo, small = self._resize(near), resize_mask(near_mask, side)
        if near is image or not whole:
            return _ReadShot(photo, small, photo, small, marked, False, content)
        return _ReadShot(photo, small, self._resize(image), resize_mask(mask, side), marked, False, content)

    def _encode_photos(
        self, photos: list[NDArray[np.uint8]], queries: list[Pyramid] | None = None
    ) -> tuple[tuple[Tensor, ...], ...]:
        """Support features; to ``queries`` the photos' pyramids as queries are added while ``max_memory`` has room."""
        room = min(self.max_memory, CPU_PHOTO_BYTES) if self.device.type == "cpu" else self.max_memory
        at_once = max(1, min(PHOTOS_AT_ONCE, room // (BYTES_PER_PIXEL * self.network.input_side**2)))
        features: list[list[Tensor]] = []
        for start in range(0, len(photos), at_once):
            with self._autocast("backbone"):
                inputs = self._to_input(photos[start : start + at_once]).permute(0, 3, 1, 2)
                if queries is None:
                    pyramid = self.network.encode_supports(inputs)
                else:
                    found, pyramid = self.network.encode_both(inputs)
                    size = sum(feature[0].numel() for level in found for feature in level) * self.dtype.itemsize
                    fitting = min(len(inputs), self.max_memory // size - start)
                    queries += [_one(found, index, self.dtype) for index in range(fitting)]
            features = features or [[self._room(feature, len(photos)) for feature in level] for level in pyramid]
            for level, parts in zip(features, pyramid, strict=True):
                for feature, part in zip(level, parts, strict=True):
                    feature[start : start + at_once] = part
        return tuple(tuple(level) for level in features)

    def _room(self, feature: Tensor, count: int) -> Tensor:
        """For ``count`` photos' feature, where supports are kept: in main memory, in half the bytes if that will do."""
        dtype = torch.float32 if self.dtype == torch.float32 else torch.float16
        size = (count, *feature.shape[1:])
        return torch.empty(size, dtype=dtype, device="cpu", memory_format=torch.channels_last)

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_image(image, self.network.input_side)

    def _to_input(self, photos: list[NDArray[np.uint8]]) -> Tensor:
        """uint8 (B, side, side, 3) on the device."""
        self._settle()
        return torch.from_numpy(np.stack(photos)).to(self.device)

    def _autocast(self, part: Literal["backbone", "head", "answer"]) -> torch.autocast:
        """Products of the chosen type in a part, whatever the caller's own autocast says: never in the answer, and on a
        CPU not in the backbone, whose rounding alone would change answers.
        """
        rounded = part == "head" or (part == "backbone" and self.device.type != "cpu")
        return torch.autocast(self.device.type, self.dtype, enabled=rounded and self.dtype != torch.float32)


@dataclass(frozen=True, eq=False)
class _ReadShot:
    """A shot at the network's side: ``photo`` and ``mask`` as it serves as a support, ``whole`` and ``whole_mask`` as a
    query; ``marked`` is the share of the photo that its mask marks, ``content`` a digest of both before they are
    resized, which may round otherwise elsewhere."""

    photo: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    whole: NDArray[np.uint8]
    whole_mask: NDArray[np.bool_]
    marked: float
    tagged: bool
    content: str


def _one(pyramid: Pyramid, index: int, dtype: torch.dtype) -> list[list[Tensor]]:
    """One photo's maps (1, C, H, W) of a batch's."""
    return [[feature[index : index + 1].to(dtype) for feature in level] for level in pyramid]
