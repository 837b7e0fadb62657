"""One wording for unknown names."""

import difflib


def unknown(kind, value, known):
    """Return ``unknown <kind> '<value>'`` with the nearest known name, or all of them."""
    known = [str(k) for k in known]
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(value).lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {value!r}; {hint}"
