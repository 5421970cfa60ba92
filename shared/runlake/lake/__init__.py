"""The lake: DuckLake through DuckDB. Needs the `lake` extra; `import runlake` never loads this."""
