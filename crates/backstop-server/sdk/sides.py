"""The two sides that every case is asked on, the simulated provider itself and the gateway before it, and what is seen there
side by side."""

import json
import urllib.request

SECONDS_MAX = 30
# What is another one with every request, on either side.
OF_THE_MOMENT = {"created", "created_at", "completed_at", "_request_id", "request_id"}


class Side:
    """One side: where its clients go, with which key, and the name of a model there."""

    def __init__(self, name, address, key, prefix=""):
        self.name = name
        self.key = key
        self.address = address
        self.is_direct = name == "direct"
        self.base_url = f"http://{address}{prefix}"

    def model(self, name):
        """On the provider's side all models are `sim`; the gateway has a name for each way to it."""
        if not self.is_direct:
            return name
        return {"small": "sim-small", "nothing": "gone"}.get(name.rpartition("-")[2], "sim")


class Judgement:
    """Counts the checks of one client, and tells each that failed on a line of its own. `args` are where the provider and the
    gateway listen, a key of the gateway, and one that may ask for the model `plain` only."""

    def __init__(self, args):
        self.sim, gateway, key, self.narrow_key = args
        self.direct = Side("direct", self.sim, "sim-key", "/p/direct")
        self.gateway = Side("gateway", gateway, key)
        self.checks = 0
        self.failed = 0

    def check(self, name, so, seen):
        self.checks += 1
        if not so:
            self.failed += 1
            print(f"NOT SO: {name}: {seen}", flush=True)

    def same(self, name, case):
        """The case gives the same on both sides, and it does give something."""
        direct, gateway = tried(case, self.direct), tried(case, self.gateway)
        if isinstance(direct, Raised):
            self.check(name, False, f"the case itself fails: {direct}")
        else:
            self.check(name, direct == gateway, apart(direct, gateway))
        return gateway

    def raises(self, name, error, case, only=("class", "status", "type", "code", "message")):
        """The case raises an exception of exactly this class on both sides, and what `only` names of it is the same."""
        direct, gateway = tried(case, self.direct), tried(case, self.gateway)
        for side, seen in (("direct", direct), ("gateway", gateway)):
            is_it = isinstance(seen, Raised) and seen.error is error
            self.check(f"{name} {side}", is_it, f"{error.__name__} is wanted, not {seen}")
        if isinstance(direct, Raised) and isinstance(gateway, Raised):
            direct, gateway = ({key: seen.told.get(key) for key in only} for seen in (direct, gateway))
            self.check(f"{name} told the same", direct == gateway, apart(direct, gateway))

    def only_gateway(self, name, case, wanted=lambda seen: True):
        """The case goes well through the gateway, and gives what is wanted."""
        seen = tried(case, self.gateway)
        self.check(name, not isinstance(seen, Raised) and wanted(seen), seen)
        return seen

    def reset(self):
        """Lets the schedule of faults begin anew."""
        urllib.request.urlopen(f"http://{self.sim}/sim/reset", data=b"", timeout=SECONDS_MAX).read()

    def arrived(self, providers):
        """The bodies that last arrived at these providers."""
        seen = json.load(urllib.request.urlopen(f"http://{self.sim}/sim/requests", timeout=SECONDS_MAX))
        return [[each["body"] for each in seen if each["provider"] == provider][-1] for provider in providers]

    def tell(self, client):
        print(f"{client}: {self.checks} checks, {self.failed} failed", flush=True)
        return self.failed == 0


class Raised:
    """An exception, with what a client's code would look at."""

    def __init__(self, error):
        self.error = type(error)
        body = getattr(error, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else {}
        inner = inner if isinstance(inner, dict) else {}
        response = getattr(error, "response", None)
        self.headers = dict(response.headers) if response is not None else {}
        self.told = {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "type": inner.get("type"),
            "code": getattr(error, "code", None) or (inner.get("details") or {}).get("error_code"),
            "message": inner.get("message") or str(error),
            "request_id": getattr(error, "request_id", None),
        }

    def __repr__(self):
        return f"{self.error.__name__} {self.told}"


def tried(case, side):
    try:
        return plain(case(side))
    except Exception as error:  # what it is, is judged
        return Raised(error)


def plain(value):
    """Values of an SDK as plain ones, without what is of the moment."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in OF_THE_MOMENT}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def apart(direct, gateway):
    """Where two values begin to differ."""
    one, other = (each if isinstance(each, (str, bytes)) else shown(each) for each in (direct, gateway))
    at = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    start = max(at - 60, 0)
    return f"direct {one[start:at + 200]!r} but gateway {other[start:at + 200]!r}"


def shown(value):
    return json.dumps(value, ensure_ascii=False, default=repr)


class Files:
    """What the tools of the cases work on."""

    def __init__(self, **files):
        self.files = {name.replace("_", ".", 1): content for name, content in files.items()}

    def run(self, name, args):
        if name == "read_file":
            return self.files.get(args["path"], f"File not found: {args['path']}")
        self.files[args["path"]] = args["content"]
        return "written"
