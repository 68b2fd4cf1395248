"""Names that all stories share."""

ROOT = "/store"
RUN = "run"
