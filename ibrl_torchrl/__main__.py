"""``python -m ibrl_torchrl``: the command line where its script is not on the path."""

from ibrl_torchrl.cli.main import main

if __name__ == "__main__":
    main()
