"""``python -m convolume``: the command line."""

from convolume.cli import main

if __name__ == "__main__":
    main()
