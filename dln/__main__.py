"""``python -m dln`` is the same as the command ``dln``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
