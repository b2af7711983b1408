"""Speed against a plain version of the authors' loop, in one run: ``python -m benchmarks --help``."""
