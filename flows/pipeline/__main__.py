"""`python -m flows.pipeline`."""

from flows.pipeline.flow import main

if __name__ == "__main__":
    main()
