"""The machine: studies, cells, stages, trainers, experts and reports. It names no plugin."""
