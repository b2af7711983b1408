"""Tensors in, tensors out: the network of the paper. No files, no network access, no global state.

Shape letters used in every docstring of this package:

==========  =====================================================================
``B``       queries in a batch
``N``       ways: support classes
``K``       shots: labelled photos of a class
``P``       (query, support) pairs; ``P = B * N * K`` where nothing else is said
``L``       feature maps of a pyramid level, and so channels of its correlation
``C``       channels
``H W``     height and width on the query side; ``Q = H * W`` query positions
``h w``     height and width on the support side; ``S = h * w`` support positions
==========  =====================================================================

Levels are always listed from the coarsest to the finest: [level 4, level 3, level 2] (strides 32, 16, 8).
Inside the network query positions are the last axis, because every operation of a squeeze layer is shared by them.
"""
