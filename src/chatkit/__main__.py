"""`python -m chatkit` is `chatkit`."""

from .cli import main

if __name__ == "__main__":
    main()
