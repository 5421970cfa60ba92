"""SQL for users: one SELECT over the views `runs` and `events`, answered by a confined process of its own.

`service` takes the request, `extracts` keeps the files that it reads, `sandboxes` owns the processes; `sandbox` is what
runs in them, where `answering` runs a statement, after `confinement` and `statement` have said what it may do.
"""
