"""`python -m flows.server`."""

from flows.server.serve import main

if __name__ == "__main__":
    main()
