"""Weight files on disk: a head's file, its backbone's fingerprint, the network of both, the paper's authors' files."""
