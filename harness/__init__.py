"""The harness: commands, studies, stages, trainers, evaluation and reports. It names no plugin."""
