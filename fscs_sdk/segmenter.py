"""The assembler: photos and supports in, predictions out."""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.devices import NOT_BY_FORK, choose_device, choose_dtype, settle_threads
from fscs_sdk.images import ImageSource, close_up, read_image, resize_image, resize_mask
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
        self, supports: Mapping[str, object], *, threshold: float | Mapping[str, float] | None = None
    ) -> SupportSet:
        """Pass every support photo through the backbone, once; the result can be used any number of times, and saved.

        Args:
            supports: class name -> ``[image, mask]``, a :class:`Shot`, or a list of shots; N classes, K may differ.
                Where the model says so (those that ship do), a photo is cropped around an object that is small in it.
            threshold: delta of eq. 2 in [0, 1], for all classes or by name; for those not named, the model's own.

        Raises:
            ValueError: a support that cannot be used; the message names it.
        """
        shots = parse_supports(supports)
        names = tuple(shots)
        own = torch.full((len(names),), self.network.threshold, dtype=torch.float32, device="cpu")
        if threshold is not None:
            merge_thresholds(names, threshold, own)  # what cannot be is refused before the photos are read
        photos, masks, tagged, class_index = [], [], [], []
        made_from = [str(self.network.threshold)]
        for index, (name, class_shots) in enumerate(shots.items()):
            for number, shot in enumerate(class_shots, start=1):
                photo, mask, content = self._read_shot(shot, name, f"shot {number} of class {name!r}")
                made_from += name, content
                photos.append(photo)
                masks.append(mask)
                tagged.append(shot.is_tag)
                class_index.append(index)
        encoded = SupportSet(
            names=names,
            class_index=torch.tensor(class_index, device="cpu"),
            features=self._encode_photos(photos),
            masks=torch.from_numpy(np.stack(masks)),
            tagged=torch.tensor(tagged, device="cpu"),
            thresholds=own,
            model=self.identity,
            source=digest(*made_from),
        )
        return encoded if threshold is None else encoded.with_thresholds(threshold)

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
        return [
            EncodedQuery([[feature[index : index + 1].to(self.dtype) for feature in level] for level in pyramid], size)
            for index, size in enumerate(sizes)
        ]

    def infer(self, query: EncodedQuery, supports: SupportSet) -> Inference:
        """The light half: one encoded query against encoded supports, as tensors on the model's device."""
        self._settle()
        supports = self._near(supports)
        masks = None if bool(supports.tagged.all()) else supports.masks
        most = PAIRS_AT_ONCE.get(self.device.type, 1)
        at_once = max(1, min(most, self.max_memory // pair_bytes(query.pyramid, supports.features)))
        with self._autocast("head"):
            logits = self.network.pair_logits(query.pyramid, supports.features, masks, at_once=at_once)
        shots = torch.bincount(supports.class_index, minlength=len(supports)).tolist()
        with torch.inference_mode(), self._autocast("answer"):
            thresholds = supports.thresholds.to(self.device)
            return infer(torch.split(logits, shots), query.size, thresholds, protocol=self.protocol)

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
            )
            self._nearby = nearby = weakref.ref(supports), placed
        return nearby[1]

    def _encoded(self, supports: Mapping[str, object] | SupportSet) -> SupportSet:
        if not isinstance(supports, SupportSet):
            return self.encode(supports)
        self.check(supports)
        return supports

    def _read_shot(self, shot: Shot, name: str, label: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_], str]:
        """Photo and mask at the network's size, and a digest of what they were before: resizing may round otherwise."""
        image, mask = read_shot(shot, name, label=label)
        side = self.network.input_side
        if mask is None:
            return self._resize(image), np.ones((side, side), dtype=np.bool_), digest(image)
        content = digest(image, mask)
        image, mask = close_up(image, mask, self.network.close_up)
        return self._resize(image), resize_mask(mask, side), content

    def _encode_photos(self, photos: list[NDArray[np.uint8]]) -> tuple[tuple[Tensor, ...], ...]:
        room = min(self.max_memory, CPU_PHOTO_BYTES) if self.device.type == "cpu" else self.max_memory
        at_once = max(1, min(PHOTOS_AT_ONCE, room // (BYTES_PER_PIXEL * self.network.input_side**2)))
        features: list[list[Tensor]] = []
        for start in range(0, len(photos), at_once):
            with self._autocast("backbone"):
                inputs = self._to_input(photos[start : start + at_once]).permute(0, 3, 1, 2)
                pyramid = self.network.encode_supports(inputs)
            features = features or [[self._room(feature, len(photos)) for feature in level] for level in pyramid]
            for level, found in zip(features, pyramid, strict=True):
                for feature, part in zip(level, found, strict=True):
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
