"""The dashboard: pages that ask the public API, and nothing else."""
