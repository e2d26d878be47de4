"""`python -m flows.server_setup`, the former name of `python -m flows.server.setup`."""

from flows.server.setup import main

if __name__ == "__main__":
    main()
