"""What the benchmarks of recovery compare: this project, stock Ray Train and torchrun, while workers are killed."""
