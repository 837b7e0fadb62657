"""One wording for unknown names."""

import difflib


def nearest(value, known):
    """Return the name in `known` that is closest to `value`, whatever their case, or None."""
    folded = {str(name).lower(): str(name) for name in known}
    close = difflib.get_close_matches(str(value).lower(), folded, n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def unknown(kind, value, known):
    """Return ``unknown <kind> '<value>'`` with the nearest known name, or all of them."""
    close = nearest(value, known)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(map(str, known))}"
    return f"unknown {kind} {value!r}; {hint}"
