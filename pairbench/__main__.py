"""`python -m pairbench`."""

from pairbench.cli.main import main

if __name__ == "__main__":
    main()
