"""``python -m mmref`` is the command ``mmref``."""

from mmref.cli.main import run

if __name__ == "__main__":
    run()
