"""`python -m flows.automations`, the former name of `python -m flows.server.automations`."""

from flows.server.automations import main

if __name__ == "__main__":
    main()
