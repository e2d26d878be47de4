"""All that needs a GPU, proved and measured by one command: `bash benchmarks/gpu.sh`."""
