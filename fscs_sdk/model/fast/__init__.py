"""Fast paths, each beside the plain one that it must equal: `cpu`, and Triton kernels for `cuda`."""
