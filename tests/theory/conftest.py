"""The tally of mutants, in one line at the end of the session."""


def pytest_terminal_summary(terminalreporter):
    """Say how many mutants were tried and how many of them were killed."""
    fates = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call":
                fates |= {value: outcome == "passed" for name, value in report.user_properties if name == "mutant"}
    if fates:
        theorems = {name.split(":")[0] for name in fates}
        terminalreporter.write_line(f"mutants: {sum(fates.values())} of {len(fates)} killed, of {len(theorems)} theorems")
