"""The assembler: photos and supports in, predictions out."""

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.devices import NOT_BY_FORK, choose_device, choose_dtype
from fscs_sdk.examination import NEGATIVES_PER_CLASS, Examination, Photos, examine
from fscs_sdk.images import (
    DEFAULT_MAX_PIXELS,
    ImageSource,
    ImageWarning,
    close_up,
    cut_tiles,
    fullest_tile,
    read_image,
    resize_image,
    resize_mask,
)
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.correlation import Pyramid
from fscs_sdk.model.edges import Edges
from fscs_sdk.model.ifsl import PROTOCOLS, Inference, Maps, ProtocolName, infer
from fscs_sdk.model.network import FewShotNetwork, pair_bytes
from fscs_sdk.model.squeeze import visible_keys
from fscs_sdk.model.tiles import SCALES, SHARE, Scale, ScaleChoice, join_tiles, tile_step
from fscs_sdk.prediction import Failure, Prediction
from fscs_sdk.references.shots import read_shot
from fscs_sdk.streaming import (
    Failed,
    OnError,
    Transfers,
    ahead,
    attempt,
    count_workers,
    one_behind,
    run,
    share,
    share_out,
    workers,
)
from fscs_sdk.supports import Shot, SupportSet, choose_scales, digest, merge_thresholds, parse_supports
from fscs_sdk.video import capture_frames, is_capture
from fscs_sdk.weights import locate_model

#: Pairs in the head at once: enough to fill the device; on a CPU, whose cache holds one at best, one.
PAIRS_AT_ONCE = {"cpu": 1, "cuda": 32, "mps": 16}
#: Support photos in the backbone at once; on a CPU large batches are no faster, and a photo alone is always the same.
PHOTOS_AT_ONCE = {"cuda": 8, "mps": 8}
#: What a photo in a backbone takes, roughly: maps that are kept, and those of the stage that is computed.
BYTES_PER_PIXEL = 1000
#: Bytes that may be in use at once where nothing else is said.
MAX_MEMORY = 4 * 10**9
#: Threads that decode a stream's photos for a GPU, and how many photos they may be ahead of the answers.
DECODERS, PHOTOS_AHEAD = 4, 8


@dataclass(frozen=True)
class EncodedQuery:
    """A query after its one pass through the backbone.

    Attributes:
        pyramid: maps (1, C_l, H, W).
        size: (height, width) of the photo.
        tiles: the pyramids of its four tiles; empty where they were not asked for.
        edges: of the photo, which its maps follow; None: they follow none.
    """

    pyramid: Pyramid
    size: tuple[int, int]
    tiles: tuple[Pyramid, ...] = ()
    edges: Edges | None = None


@dataclass(frozen=True)
class _Decoded:
    """A photo, uint8 (H, W, 3), and uint8 (1 or 5, side, side, 3): as the network takes it, and its tiles if asked."""

    image: NDArray[np.uint8]
    views: NDArray[np.uint8]


@dataclass(frozen=True)
class _LateMaps:
    """A prediction's maps, in main memory, before they are brought to the photo's size; they follow edges of ``image``
    if a network's ``side`` is given."""

    maps: Maps
    image: NDArray[np.uint8]
    side: int | None

    def probabilities(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        edges = None
        if self.side is not None:
            edges = Edges(torch.from_numpy(self.image), torch.from_numpy(resize_image(self.image, self.side)))
        foreground, background = run(replace(self.maps, edges=edges).probabilities)
        return foreground.numpy(), background.numpy()


class FewShotSegmenter:
    """Answers which of some labelled classes are in a photo, and where (iFSL, ASNet).

    Make one with :meth:`from_pretrained`. It holds no results, and of supports at most a GPU's copy: the same
    call gives the same answer, whatever PyTorch's global settings are (default type and device, gradients, autocast).

    One model may be shared: any number of threads may call it at once. On a CPU they share its workers, as many as
    PyTorch may use threads (``torch.set_num_threads``), see :mod:`fscs_sdk.streaming`. A model can be copied, and
    pickled into a process that is spawned; a process that is forked can go on with it on a CPU, but not on a GPU.
    """

    def __init__(
        self,
        network: FewShotNetwork,
        *,
        name: str,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        protocol: ProtocolName | None = None,
        max_memory: int | None = None,
        edges: bool = True,
    ) -> None:
        """Wrap a loaded network.

        Args:
            network: is taken over: its parts are moved to the device and put into evaluation mode.
            name: what errors and support files call the model.
            device: ``auto`` (CUDA, else Apple's MPS, else CPU) or a torch device.
            dtype: ``float32``, ``bfloat16`` or ``float16``: to what the operands of products are rounded. On a CPU
                those of the correlations and of the head are, while residual sums, softmax, normalisations and the
                backbone stay in float32 (rounding the backbone alone would change 0.5 % of the presences); on other
                devices the backbone's too. ``auto`` is for ASNet bfloat16 on a CPU that multiplies it faster than
                float32 (AMX, or AVX512-BF16 of AMD), where it keeps 99.9 % of mask pixels, and float16 on CUDA, whose
                tensor cores all have it and whose rounding is eight times finer; else float32.
            protocol: ``paper`` or ``authors`` (see :mod:`fscs_sdk.model.ifsl`); by default what the head was trained
                for: ``authors`` for converted checkpoints, else ``paper``.
            max_memory: bytes that intermediate results may take at once, 4 GB if not given. Fewer photos and pairs are
                computed together where they would need more; answers stay the same. One at a time is always allowed, on
                a CPU one for each worker. What is asked for (supports, and N maps of the photo's size) is not counted.
            edges: let the maps follow the photo's edges (:mod:`fscs_sdk.model.edges`), by the protocol ``paper``; False
                gives the paper's maps. Presence and scores are the same either way.

        Raises:
            ValueError: an unknown device, dtype or protocol, or a memory limit that is not above 0.
        """
        protocol = network.protocol if protocol is None else protocol
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r} is unknown; choose {' or '.join(PROTOCOLS)}")
        if max_memory is not None and max_memory <= 0:
            raise ValueError(f"max_memory is {max_memory}; it must be a number of bytes above 0, such as 2_000_000_000")
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, network, self.device)
        self.protocol: ProtocolName = protocol
        self.max_memory = MAX_MEMORY if max_memory is None else max_memory
        self.edges = edges and protocol == "paper"
        self.network = network
        for part in network.parts:
            part.to(self.device).eval()
        if self.device.type == "cuda":  # the layout that its convolutions want; photos enter in it
            network.backbone.to(memory_format=torch.channels_last)
        self._nearby: tuple[weakref.ref[SupportSet], SupportSet] | None = None
        self._process = os.getpid()
        self.identity = f"{name}@{run(network.identity)}"

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all but the supports that are near the device, and the process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_nearby", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _nearby=None, _process=os.getpid())

    def _check_process(self) -> None:
        """Refuse a GPU in a process that was forked.

        Raises:
            ValueError: the model is on one, and this is not the process that loaded it.
        """
        if self.device.type != "cpu" and self._process != os.getpid():
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
        protocol: ProtocolName | None = None,
        backbone: str | os.PathLike[str] | None = None,
        max_memory: int | None = None,
        edges: bool = True,
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
            edges: see :meth:`__init__`.

        Raises:
            ValueError: no such model, or files that are damaged or do not fit together.
            OSError: files cannot be read or downloaded.
        """
        files = locate_model(
            name, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        network = run(
            lambda: load_network(
                files,
                backbone=None if backbone is None else Path(backbone),
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
            )
        )
        called = os.path.basename(os.path.abspath(name)).removesuffix(".safetensors")
        return cls(
            network, name=called, device=device, dtype=dtype, protocol=protocol, max_memory=max_memory, edges=edges
        )

    def encode(
        self,
        supports: Mapping[str, object],
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        calibrate: bool = False,
        negatives: Sequence[ImageSource] = (),
        negatives_per_class: int = NEGATIVES_PER_CLASS,
        scales: ScaleChoice | Mapping[str, ScaleChoice] = "auto",
        progress: Callable[[int, int], object] | None = None,
    ) -> SupportSet:
        """Pass every support photo through the backbone, once; the result can be used any number of times, and saved.

        Args:
            supports: class name -> ``[image, mask]``, a :class:`Shot`, or a list of shots; N classes, K may differ.
                Where the model says so (those that ship do), a photo is cropped around an object that is small in it.
            threshold: delta of eq. 2 in [0, 1], for all classes or by name; for those not named, the model's own, or
                the calibrated one.
            max_pixels: larger photos and masks are refused, from their header, before they are decoded.
            calibrate: ask the photos about each other (:meth:`examine`) and set the threshold, the score's scale and
                the mask offset of every class that has two shots or for which there are negatives. Its scores then are
                probabilities that it is there. What thresholds and offsets rest on is in ``examination``.
            negatives: for ``calibrate``, photos that show none of the classes, in any form that a query may have.
            negatives_per_class: see :meth:`examine`.
            scales: with ``calibrate``, how classes are looked for, for all or by name: ``whole``, as the paper does;
                ``tiles``: in four overlapping tiles of the query, with supports that are cropped to one, for what is
                small in its photos (a query then takes about five times as long); ``auto``: in tiles, where the shots
                of a class find each other much better so.
            progress: with ``calibrate``, called with the pairs of photos that are asked and all of them.

        Raises:
            ValueError: a support or negative that cannot be used; the message names it. Negatives or ``tiles`` without
                ``calibrate``, or ``calibrate`` with ``protocol="authors"``, which decides shot by shot.
        """
        if not calibrate and negatives:
            raise ValueError("negatives serve to calibrate; encode with calibrate=True, or leave them out")
        if calibrate and self.protocol != "paper":
            raise ValueError("calibration is for the protocol 'paper'; the authors' program decides shot by shot")
        shots = parse_supports(supports)
        names = tuple(shots)
        asked = choose_scales(names, scales)
        if not calibrate and "tiles" in asked:
            raise ValueError("a scale is part of a calibration; encode with calibrate=True, or leave out scales")
        own = self._own_thresholds(len(names))
        if threshold is not None:
            merge_thresholds(names, threshold, own)  # what cannot be is refused before the photos are read
        if calibrate:
            encoded = self._examine(shots, own, negatives, negatives_per_class, asked, max_pixels, progress)
        else:
            encoded = self._encode_shots(shots, own, self._read_shots(shots, max_pixels))
        return encoded if threshold is None else encoded.with_thresholds(threshold)

    def examine(
        self,
        supports: Mapping[str, object],
        *,
        negatives: Sequence[ImageSource] = (),
        negatives_per_class: int = NEGATIVES_PER_CLASS,
        scales: ScaleChoice | Mapping[str, ScaleChoice] = "auto",
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Callable[[int, int], object] | None = None,
    ) -> Examination:
        """What do the shots say of each other: which is bad, and how far can each class's answers be trusted?

        Every shot is asked for its own class with the class's other shots as supports, and photos of other classes, and
        those that show none, for every class. See :class:`~fscs_sdk.examination.Examination` for what is found.

        Args:
            supports: a mapping as for :meth:`encode`.
            negatives: photos that show none of the classes, in any form that a query may have.
            negatives_per_class: at most so many photos of other classes, and so many negatives, are asked for a class.
            scales: as for :meth:`encode`.
            max_pixels: as for :meth:`encode`.
            progress: called with the pairs of photos that are asked and all of them.

        Raises:
            ValueError: a support or negative that cannot be used; the message names it.
        """
        shots = parse_supports(supports)
        own = self._own_thresholds(len(shots))
        asked = choose_scales(tuple(shots), scales)
        encoded = self._examine(shots, own, negatives, negatives_per_class, asked, max_pixels, progress)
        return cast(Examination, encoded.examination)

    def _own_thresholds(self, ways: int) -> Tensor:
        return torch.full((ways,), self.network.threshold, dtype=torch.float32, device="cpu")

    def _examine(
        self,
        shots: Mapping[str, Sequence[Shot]],
        thresholds: Tensor,
        negatives: Sequence[ImageSource],
        negatives_per_class: int,
        scales: Sequence[ScaleChoice],
        max_pixels: int,
        progress: Callable[[int, int], object] | None,
    ) -> SupportSet:
        """Encode supports, ask their photos about each other and set what they say.

        A photo passes the backbone once, as support and as query together; once more as a query where it is cropped as
        a support, or where ``max_memory`` has no room for the queries of all.
        """
        if isinstance(negatives, (str, bytes, os.PathLike)):
            raise ValueError("negatives must be a list of photos; put a single one into a list")
        tiles = any(scale != "whole" for scale in scales)
        read = self._read_shots(shots, max_pixels, whole=True, tiles=tiles)
        others = [
            read_image(one, label=f"negative {number}", max_pixels=max_pixels)
            for number, one in enumerate(negatives, start=1)
        ]
        wholes = [one.whole.photo for one in read] + [resize_image(image, self.network.input_side) for image in others]
        fines = [one.fine for one in read] + [self._fine(image) if tiles else None for image in others]
        queries: list[Pyramid] = []
        encoded = self._encode_shots(shots, thresholds, read, queries)
        kept = {
            index: EncodedQuery(query, (0, 0))
            for index, query in enumerate(queries)
            if read[index].support is read[index].whole
        }
        latest: dict[tuple[int, Scale], EncodedQuery] = {}  # of the photos that are not kept, the one that is asked now

        @cache
        def cropped() -> SupportSet:
            """The shots as they serve queries in tiles; nobody waits for them who asks for none."""
            views = [one.tile for one in read if one.tile is not None]
            masks = torch.from_numpy(np.stack([view.mask for view in views]))
            return replace(encoded, features=self._encode_photos([view.photo for view in views]), masks=masks)

        def ask(photo: int, asked: Sequence[int], scale: Scale) -> Tensor:
            query = latest.get((photo, scale)) or (kept.get(photo) if scale == "whole" else None)
            if query is None:
                latest.clear()
                fine = fines[photo]
                views = [wholes[photo]] if scale == "whole" or fine is None else cut_tiles(fine, len(wholes[photo]))
                pyramids = self._pyramids(self._to_input([*views]))
                query = EncodedQuery(pyramids[0], (0, 0), () if scale == "whole" else tuple(pyramids))
                latest[photo, scale] = query
            return self.ask(query, encoded if scale == "whole" else cropped(), asked, scale)

        photos = Photos(
            names=encoded.names,
            class_index=encoded.class_index.numpy(),
            tagged=encoded.tagged.numpy(),
            masks=np.stack([one.whole.mask for one in read]),
            marked=np.array([one.marked for one in read]),
            pixels=np.stack(wholes),
            features=(encoded.features[0], encoded.features[1]),
            close_masks=encoded.masks.numpy(),
        )
        examination, settings = examine(
            photos,
            ask,
            delta=self.network.threshold,
            scales=scales,
            negatives_per_class=negatives_per_class,
            progress=progress,
        )
        if settings.calibration is None:
            return replace(encoded, examination=examination)
        made_from = [
            encoded.source,
            "calibrated, shots pooled",
            str(negatives_per_class),
            *sorted(digest(image) for image in others),
        ]
        made_from += [f"{name} {scale}" for name, scale in zip(shots, scales, strict=True) if scale != "whole"]
        if "tiles" in settings.scales:
            encoded = encoded.at_scales(settings.scales, cropped())
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
        features = self._encode_photos([one.support.photo for one in read], queries)
        masks = torch.from_numpy(np.stack([one.support.mask for one in read]))
        self._tell_unseen(shots, masks, features[0][0])
        return SupportSet(
            names=tuple(shots),
            class_index=torch.tensor(class_index, device="cpu"),
            features=features,
            masks=masks,
            tagged=torch.tensor([one.tagged for one in read], device="cpu"),
            thresholds=thresholds,
            model=self.identity,
            source=digest(*made_from),
        )

    def _tell_unseen(self, shots: Mapping[str, Sequence[Shot]], masks: Tensor, coarsest: Tensor) -> None:
        """Warn of objects that lie between the positions of an ASNet's finest grid of keys, level 4's."""
        if type(self.network.head) is not ASNet or self.network.head.touched:
            return
        height, width = coarsest.shape[-2:]
        seen = run(lambda: visible_keys(masks.float(), height, width).any(dim=1) | ~masks.flatten(1).any(dim=1))
        labels = [f"shot {n} of class {name!r}" for name, given in shots.items() for n in range(1, len(given) + 1)]
        for label in (label for label, is_seen in zip(labels, seen.tolist(), strict=True) if not is_seen):
            warnings.warn(
                f"the mask of {label} marks so little, or so thin a thing, that this model cannot tell where it is, "
                "and takes it as if it had no mask: crop the photo around the object, or draw it thicker",
                ImageWarning,
                stacklevel=2,
            )

    @overload
    def predict(
        self,
        query: list[Any] | tuple[Any, ...],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: Literal["raise"],
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self,
        query: list[Any] | tuple[Any, ...],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: OnError = "skip",
    ) -> list[Prediction | Failure]: ...

    @overload
    def predict(
        self,
        query: ImageSource,
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Prediction: ...

    def predict(
        self,
        query: ImageSource | list[Any] | tuple[Any, ...],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: OnError = "skip",
    ) -> Prediction | Sequence[Prediction | Failure]:
        """Which of the supports' classes are in the photo, and where?

        Args:
            query: a photo as path, bytes, file object, PIL image, numpy array or torch tensor (see
                :func:`fscs_sdk.images.read_image`), or a list of photos.
            supports: a mapping as for :meth:`encode`, or what :meth:`encode` made of it.
            threshold: delta of eq. 2 in [0, 1] in place of the supports' own, for all classes or by name.
            max_pixels: larger photos are refused, from their header, before they are decoded; so are those of a
                mapping of supports.
            on_error: of a list, whose other photos are answered all the same: ``skip`` a photo that cannot be, so that
                a :class:`Failure` stands in its place, or ``raise`` at the first. A single photo always raises.

        Returns:
            A :class:`Prediction` at the photo's own size; a list of them for a list of photos.

        Raises:
            ValueError: a photo or support that cannot be used, or supports encoded by another model.
            OSError: a file that cannot be read.
        """
        if isinstance(query, (list, tuple)):
            return list(self.stream(query, supports, threshold=threshold, max_pixels=max_pixels, on_error=on_error))
        encoded = self._encoded(supports, threshold, max_pixels)
        return self._predict(query, "the query", encoded, max_pixels)

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

    @overload
    def stream(
        self,
        queries: Iterable[ImageSource],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: Literal["raise"] = "raise",
    ) -> Iterator[Prediction]: ...

    @overload
    def stream(
        self,
        queries: Iterable[ImageSource],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: OnError,
    ) -> Iterator[Prediction | Failure]: ...

    def stream(
        self,
        queries: Iterable[ImageSource],
        supports: Mapping[str, object] | SupportSet,
        *,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        on_error: OnError = "raise",
    ) -> Iterator[Prediction | Failure]:
        """Predictions for many photos, in order: the one way that lists, videos and folders go.

        Photos are taken, decoded and answered ahead of the answer that is asked for, so ``queries`` must not wait for
        answers. On a CPU whole photos go to its workers, two for each at most; with one (``torch.set_num_threads(1)``)
        a photo is taken only when its answer is asked for. On CUDA up to eight are decoded ahead of the one that the
        device works on, and an answer is fetched once the next one's work has been given to it, so that it never
        waits. Of large photos there are fewer: what waits takes half a gigabyte at most, or is one photo.

        Args:
            queries: an iterable of photos, each as for :meth:`predict`; or an open ``cv2.VideoCapture``, of which all
                frames are taken from where it stands.
            supports, threshold, max_pixels: as for :meth:`predict`; supports are encoded, and checked, at once.
            on_error: ``raise`` where the answer of a photo is asked for that has none; asked again, the stream goes on
                with the next. ``skip``: a :class:`Failure` stands in its place. Errors of ``queries`` itself end it.

        Raises:
            ValueError, OSError: as :meth:`predict`.
        """
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error {on_error!r} is unknown; choose {' or '.join(get_args(OnError))}")
        if is_capture(queries):
            queries = capture_frames(queries)
        one = isinstance(queries, (str, bytes, os.PathLike)) or getattr(queries, "ndim", 0) in (2, 3)
        if one or not isinstance(queries, Iterable):
            raise ValueError(
                f"many photos are a list or another iterable of them, not {type(queries).__name__}; "
                "for one photo write [photo] or use predict()"
            )
        encoded = self._encoded(supports, threshold, max_pixels)
        numbered = (
            (query, None if isinstance(query, (str, os.PathLike)) else f"query {number}")  # a path names itself
            for number, query in enumerate(queries, start=1)
        )
        way = self._stream_to_device if self.device.type == "cuda" else self._stream_by_workers
        answers = way(numbered, encoded, max_pixels)
        return map(lambda answer: answer.settle(on_error) if isinstance(answer, Failed) else answer, answers)

    def _stream_by_workers(
        self, queries: Iterable[tuple[ImageSource, str | None]], supports: SupportSet, max_pixels: int
    ) -> Iterator[Prediction | Failed]:
        def answer(query: tuple[ImageSource, str | None]) -> Prediction | Failed:
            source, label = query
            return attempt(source, lambda: self._predict(source, label, supports, max_pixels))

        def size(answer: Prediction | Failed) -> int:
            return 0 if isinstance(answer, Failed) else answer.image.nbytes + answer.mask.nbytes

        count = count_workers() if self.device.type == "cpu" else 1
        if count == 1:
            return map(answer, queries)
        return ahead(queries, answer, pool=workers(), most=2 * count, size=size)

    def _stream_to_device(
        self, queries: Iterable[tuple[ImageSource, str | None]], supports: SupportSet, max_pixels: int
    ) -> Iterator[Prediction | Failed]:
        """Nothing here waits for the device but the calls of what ``begin`` returns."""
        transfers = Transfers(self.device)

        def decode(query: tuple[ImageSource, str | None]) -> tuple[ImageSource, _Decoded | Failed]:
            source, label = query
            return source, attempt(
                source, lambda: self._decode(source, label, max_pixels, tiles="tiles" in supports.scales)
            )

        def begin(decoded: tuple[ImageSource, _Decoded | Failed]) -> Callable[[], Prediction | Failed]:
            source, photo = decoded
            if isinstance(photo, Failed):
                return lambda: photo
            fetch = attempt(source, lambda: self._begin(photo, supports, transfers))
            return (lambda: fetch) if isinstance(fetch, Failed) else (lambda: attempt(source, fetch))

        def size(decoded: tuple[ImageSource, _Decoded | Failed]) -> int:
            return 0 if isinstance(decoded[1], Failed) else decoded[1].image.nbytes

        decoders = ThreadPoolExecutor(DECODERS, "fscs-decode")
        try:
            photos = ahead(queries, decode, pool=decoders, most=PHOTOS_AHEAD, size=size)
            for fetch in one_behind(map(begin, photos)):
                yield fetch()
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)

    def _predict(self, source: ImageSource, label: str | None, supports: SupportSet, max_pixels: int) -> Prediction:
        image = read_image(source, label=label, max_pixels=max_pixels)
        answer = self.infer(self.encode_query(image, tiles="tiles" in supports.scales), supports)
        return self._prediction(image, supports, answer.maps, [tensor.cpu().numpy() for tensor in _parts(answer)])

    def _decode(self, source: ImageSource, label: str | None, max_pixels: int, *, tiles: bool) -> _Decoded:
        image = read_image(source, label=label, max_pixels=max_pixels)
        return _Decoded(image, self._views(image, tiles=tiles))

    def _views(self, image: NDArray[np.uint8], *, tiles: bool) -> NDArray[np.uint8]:
        """uint8 (1 or 5, side, side, 3): the photo, and its four tiles."""
        side = self.network.input_side
        whole = resize_image(image, side)[None]
        return np.concatenate([whole, cut_tiles(self._fine(image), side)]) if tiles else whole

    def _fine(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A photo at the side at which its tiles are as large as the network takes them."""
        side = self.network.input_side
        return resize_image(image, side + tile_step(side))

    def _begin(self, photo: _Decoded, supports: SupportSet, transfers: Transfers) -> Callable[[], Prediction]:
        """Give the device all the work of a query; calling the result waits for the answer."""
        views = transfers.upload(photo.views)
        query = self._encode_input(views, photo.image.shape[:2])
        if self.edges:
            query = replace(query, edges=Edges(transfers.upload(photo.image), views[0]))
        answer = self.infer(query, supports)
        fetch = transfers.download(_parts(answer))
        return lambda: self._prediction(photo.image, supports, answer.maps, fetch())

    def encode_query(self, image: NDArray[np.uint8], *, tiles: bool = False) -> EncodedQuery:
        """A decoded photo, uint8 (H, W, 3) -> its pyramid: the half of a prediction that no support changes.

        Args:
            tiles: those of its tiles too, which supports need whose ``in_tiles`` is true.
        """
        views = self._to_input([*self._views(image, tiles=tiles)])
        query = self._encode_input(views, image.shape[:2])
        return replace(query, edges=Edges(torch.from_numpy(image).to(self.device), views[0])) if self.edges else query

    def _encode_input(self, views: Tensor, size: tuple[int, int]) -> EncodedQuery:
        """uint8 (1 or 5, side, side, 3) on the device -> a query; ``size``: (height, width) of its answer."""
        whole, *tiles = self._pyramids(views)
        return EncodedQuery(whole, size, tuple(tiles))

    def _pyramids(self, views: Tensor) -> list[Pyramid]:
        """Of photos or tiles, uint8 (B, side, side, 3) on the device: one at a time, so each is always the same."""

        def encode(view: Tensor) -> list[list[Tensor]]:
            with self._autocast("backbone"):
                pyramid = self.network.encode_queries(view[None].permute(0, 3, 1, 2))
            return [[feature.to(self.dtype) for feature in level] for level in pyramid]

        self._check_process()
        return share(encode, views) if self.device.type == "cpu" else [encode(view) for view in views]

    def infer(self, query: EncodedQuery, supports: SupportSet) -> Inference:
        """The light half: one encoded query against encoded supports, as tensors on the model's device.

        Raises:
            ValueError: the supports look for a class in tiles, and the query was encoded without its own.
        """
        if "tiles" in supports.scales and not query.tiles:
            raise ValueError("these supports look for a class in tiles; encode the query with tiles=True")
        supports = self._near(supports)
        shots = torch.bincount(supports.class_index, minlength=len(supports.names)).tolist()
        scaled = self._logits_by_scale(query, supports) if "tiles" in supports.scales else None
        logits = self._pair_logits(query.pyramid, supports) if scaled is None else []

        def conclude() -> Inference:
            with torch.inference_mode(), self._autocast("answer"):
                return infer(
                    torch.split(torch.cat(logits), shots) if scaled is None else scaled,
                    query.size,
                    supports.thresholds.to(self.device),
                    protocol=self.protocol,
                    calibration=supports.calibration,
                    edges=query.edges,
                )

        return run(conclude) if self.device.type == "cpu" else conclude()

    def ask(self, query: EncodedQuery, supports: SupportSet, shots: Sequence[int], scale: Scale = "whole") -> Tensor:
        """What single shots, numbered in the set's order, find in a query: foreground minus background logits.

        Args:
            scale: where they look, whatever the set says of their classes.

        Returns:
            float32 (P, h, w) on the CPU, before anything is averaged or calibrated.
        """
        logits = self._logits(query, self._near(supports), torch.tensor(shots, device="cpu"), scale)
        return run(lambda: (logits[:, 1].float() - logits[:, 0].float()).cpu())

    def _logits_by_scale(self, query: EncodedQuery, supports: SupportSet) -> list[Tensor]:
        """For each class of :meth:`_near`'s supports its shots' logits (K, 2, h, w), on the grid of its scale."""
        found: dict[int, Tensor] = {}
        for scale in SCALES:
            ways = torch.tensor([way for way, own in enumerate(supports.scales) if own == scale], device="cpu")
            shots = torch.isin(supports.class_index, ways).nonzero()[:, 0]
            if len(shots):
                logits = self._logits(query, supports, shots, scale)
                counts = torch.bincount(supports.class_index, minlength=len(supports.names))[ways].tolist()
                found |= zip(ways.tolist(), torch.split(logits, counts), strict=True)
        return [found[way] for way in range(len(supports.names))]

    def _logits(self, query: EncodedQuery, supports: SupportSet, shots: Tensor, scale: Scale) -> Tensor:
        """(P, 2, h, w) of the shots that are numbered, from the whole query or joined from its tiles."""
        pyramids = [query.pyramid] if scale == "whole" else query.tiles
        maps = [self._pair_logits(pyramid, supports, shots) for pyramid in pyramids]

        def join() -> Tensor:
            with torch.inference_mode():
                joined = [torch.cat(parts) for parts in maps]
                return joined[0] if scale == "whole" else join_tiles(torch.stack(joined))

        return run(join) if self.device.type == "cpu" else join()

    def _pair_logits(self, query: Pyramid, supports: SupportSet, shots: Tensor | None = None) -> list[Tensor]:
        """Of a query with all shots of :meth:`_near`'s supports, or with those numbered in ``shots``: (P, 2, h, w) in
        consecutive parts."""
        masks = None if bool(supports.tagged.all()) else supports.masks
        most = PAIRS_AT_ONCE.get(self.device.type, 1)
        at_once = max(1, min(most, self.max_memory // pair_bytes(query, supports.features)))

        def compare(part: slice) -> Tensor:
            def chosen(of_all: Tensor) -> Tensor:
                return of_all[part if shots is None else shots[part].to(of_all.device)]

            features = [[chosen(feature) for feature in level] for level in supports.features]
            visible = None if masks is None else chosen(masks)
            with self._autocast("head"):
                return self.network.pair_logits(query, features, visible, at_once=at_once)

        self._check_process()
        if self.device.type != "cpu":
            return [compare(slice(None))]
        return share_out(compare, len(supports.class_index) if shots is None else len(shots))

    def _prediction(
        self, image: NDArray[np.uint8], supports: SupportSet, maps: Maps, parts: Sequence[NDArray[Any]]
    ) -> Prediction:
        """A photo's answer from its :func:`_parts` in main memory; ``maps`` say how they were made."""
        scores, present, mask, *planes = parts
        fetched = tuple(torch.from_numpy(plane) for plane in planes)
        late = Maps(
            fetched[: len(maps.foreground)],
            maps.size,
            background=None if maps.background is None else fetched[-1],
            present=None if maps.present is None else torch.from_numpy(present),
            logarithms=maps.logarithms,
        )
        return Prediction.with_late_maps(
            _LateMaps(late, image, self.network.input_side if self.edges else None),
            names=supports.names,
            scores=dict(zip(supports.names, scores.tolist(), strict=True)),
            present=dict(zip(supports.names, present.tolist(), strict=True)),
            mask=mask if mask.dtype == np.uint8 else mask.astype(np.uint16),
            image=image,
        )

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

    def _encoded(
        self,
        supports: Mapping[str, object] | SupportSet,
        threshold: float | Mapping[str, float] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> SupportSet:
        if not isinstance(supports, SupportSet):
            return self.encode(supports, threshold=threshold, max_pixels=max_pixels)
        self.check(supports)
        return supports if threshold is None else supports.with_thresholds(threshold)

    def _read_shots(
        self, shots: Mapping[str, Sequence[Shot]], max_pixels: int, *, whole: bool = False, tiles: bool = False
    ) -> list["_ReadShot"]:
        """All shots in their order; see :meth:`_read_shot`."""
        return [
            self._read_shot(shot, name, f"shot {number} of class {name!r}", max_pixels, whole=whole, tiles=tiles)
            for name, class_shots in shots.items()
            for number, shot in enumerate(class_shots, start=1)
        ]

    def _read_shot(
        self, shot: Shot, name: str, label: str, max_pixels: int, *, whole: bool, tiles: bool
    ) -> "_ReadShot":
        """A shot at the network's side; ``whole``: also as it is, where it is cropped around its object; ``tiles``:
        also in the tile that holds most of its object, and fine enough to cut tiles of it."""
        image, mask = read_shot(shot, name, label=label, max_pixels=max_pixels)
        side = self.network.input_side
        fine = self._fine(image) if tiles else None
        if mask is None:
            everything = _View(resize_image(image, side), np.ones((side, side), dtype=np.bool_))
            return _ReadShot(everything, everything, everything if tiles else None, fine, 1.0, True, digest(image))
        marked, content = float(mask.mean()), digest(image, mask)

        def view(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> _View:
            return _View(resize_image(image, side), resize_mask(mask, side))

        near, near_mask = close_up(image, mask, self.network.close_up)
        support = view(near, near_mask)
        query = support if near is image or not whole else view(image, mask)
        tile = view(*close_up(*fullest_tile(image, mask, SHARE), self.network.close_up)) if tiles else None
        return _ReadShot(support, query, tile, fine, marked, False, content)

    def _encode_photos(
        self, photos: list[NDArray[np.uint8]], queries: list[Pyramid] | None = None
    ) -> tuple[tuple[Tensor, ...], ...]:
        """Support features where they are kept: in main memory, in half the bytes if that will do.

        To ``queries`` the photos' pyramids as queries are added while ``max_memory`` has room.
        """
        most = PHOTOS_AT_ONCE.get(self.device.type, 1)
        at_once = max(1, min(most, self.max_memory // (BYTES_PER_PIXEL * self.network.input_side**2)))
        dtype = torch.float32 if self.dtype == torch.float32 else torch.float16
        features: list[list[Tensor]] = []
        making = Lock()

        def room(feature: Tensor) -> Tensor:
            size = (len(photos), *feature.shape[1:])
            return torch.empty(size, dtype=dtype, device="cpu", memory_format=torch.channels_last)

        def encode(start: int) -> list[Pyramid]:
            fitting: list[Pyramid] = []
            with self._autocast("backbone"):
                inputs = self._to_input(photos[start : start + at_once]).permute(0, 3, 1, 2)
                if queries is None:
                    pyramid = self.network.encode_supports(inputs)
                else:
                    found, pyramid = self.network.encode_both(inputs)
                    size = sum(feature[0].numel() for level in found for feature in level) * self.dtype.itemsize
                    count = min(len(inputs), self.max_memory // size - start)
                    fitting = [_one(found, index, self.dtype) for index in range(count)]
            with making:
                if not features:
                    features.extend([[room(feature) for feature in level] for level in pyramid])
            for level, parts in zip(features, pyramid, strict=True):
                for feature, part in zip(level, parts, strict=True):
                    feature[start : start + at_once] = part
            return fitting

        starts = range(0, len(photos), at_once)
        self._check_process()
        encoded = share(encode, starts) if self.device.type == "cpu" else [encode(start) for start in starts]
        if queries is not None:
            queries += [query for some in encoded for query in some]
        return tuple(tuple(level) for level in features)

    def _to_input(self, photos: list[NDArray[np.uint8]]) -> Tensor:
        """uint8 (B, side, side, 3) on the device."""
        self._check_process()
        return torch.from_numpy(np.stack(photos)).to(self.device)

    def _autocast(self, part: Literal["backbone", "head", "answer"]) -> torch.autocast:
        """Products of the chosen type in a part, whatever the caller's own autocast says: never in the answer, and on a
        CPU not in the backbone, whose rounding alone would change answers.
        """
        rounded = part == "head" or (part == "backbone" and self.device.type != "cpu")
        return torch.autocast(self.device.type, self.dtype, enabled=rounded and self.dtype != torch.float32)


@dataclass(frozen=True, eq=False)
class _View:
    """A photo, or a part of it, and its mask at the network's side."""

    photo: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _ReadShot:
    """A shot: ``support`` and ``whole`` as it serves as a support and as a query; ``tile`` as a support of queries in
    tiles, and ``fine``, of which its own tiles are cut, where they were asked for; ``marked`` is the share of the photo
    that its mask marks, ``content`` a digest of both before they are resized, which may round otherwise elsewhere."""

    support: _View
    whole: _View
    tile: _View | None
    fine: NDArray[np.uint8] | None
    marked: float
    tagged: bool
    content: str


def _parts(answer: Inference) -> list[Tensor]:
    """What a prediction is made of: scores, presence, mask, foreground, and background where it has its own."""
    maps = answer.maps
    background = [] if maps.background is None else [maps.background]
    return [answer.scores, answer.present, answer.mask, *maps.foreground, *background]


def _one(pyramid: Pyramid, index: int, dtype: torch.dtype) -> list[list[Tensor]]:
    """One photo's maps (1, C, H, W) of a batch's."""
    return [[feature[index : index + 1].to(dtype) for feature in level] for level in pyramid]
