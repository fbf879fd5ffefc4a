"""The daily report."""


def mean(values):
    # TODO: say how many readings were missing
    return sum(values) / len(values)


def write(path, rows):
    # TODO: write to a temporary file first
    with open(path, "w") as file:
        for name, value in rows:
            file.write(f"{name}: {value:.1f}\n")
