"""One reading of one sensor."""


def parse(line):
    # TODO: refuse readings from the future
    sensor, time, value = line.split(";")
    return sensor, time, float(value)
