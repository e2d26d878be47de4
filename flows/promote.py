"""`python -m flows.promote`, the former name of `python -m flows.promotion`."""

from flows.promotion.__main__ import main

if __name__ == "__main__":
    main()
