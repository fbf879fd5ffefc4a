// The two sides that every case is asked on, the simulated provider itself and the gateway before it, and what is seen there
// side by side. As `sides.py`.

export const MS_MAX = 30_000;
// What is another one with every request, on either side.
const OF_THE_MOMENT = new Set(["created", "created_at", "completed_at", "_request_id", "request_id", "requestID"]);

export class Side {
  constructor(name, address, key, prefix = "") {
    Object.assign(this, { name, address, key, isDirect: name === "direct", baseURL: `http://${address}${prefix}` });
  }

  // On the provider's side all models are `sim`; the gateway has a name for each way to it.
  model(name) {
    if (!this.isDirect) return name;
    return { small: "sim-small", nothing: "gone" }[name.split("-").at(-1)] ?? "sim";
  }
}

export class Judgement {
  // Where the provider and the gateway listen, a key of the gateway, and one that may ask for the model `plain` only.
  constructor([sim, gateway, key, narrowKey]) {
    Object.assign(this, { sim, narrowKey, checks: 0, failed: 0 });
    this.direct = new Side("direct", sim, "sim-key", "/p/direct");
    this.gateway = new Side("gateway", gateway, key);
  }

  check(name, so, seen) {
    this.checks += 1;
    if (so) return;
    this.failed += 1;
    console.log(`NOT SO: ${name}: ${typeof seen === "string" ? seen : shown(seen)}`);
  }

  // The case gives the same on both sides, and it does give something.
  async same(name, run) {
    const [direct, gateway] = [await tried(run, this.direct), await tried(run, this.gateway)];
    if (direct instanceof Raised) this.check(name, false, `the case itself fails: ${shown(direct)}`);
    else this.check(name, shown(direct) === shown(gateway), apart(direct, gateway));
    return gateway;
  }

  // The case raises an error of exactly this class on both sides, and what `only` names of it is the same.
  async raises(name, error, run, only = ["status", "type", "code", "message"]) {
    const sides = [await tried(run, this.direct), await tried(run, this.gateway)];
    for (const [index, side] of ["direct", "gateway"].entries()) {
      const seen = sides[index];
      this.check(`${name} ${side}`, seen instanceof Raised && seen.error === error, `${error.name} is wanted, not ${shown(seen)}`);
    }
    if (!sides.every((seen) => seen instanceof Raised)) return;
    const [direct, gateway] = sides.map((seen) => Object.fromEntries(only.map((key) => [key, seen.told[key] ?? null])));
    this.check(`${name} told the same`, shown(direct) === shown(gateway), apart(direct, gateway));
  }

  // The case goes well through the gateway, and gives what is wanted.
  async onlyGateway(name, run, wanted = () => true) {
    const seen = await tried(run, this.gateway);
    this.check(name, !(seen instanceof Raised) && wanted(seen), seen);
    return seen;
  }

  // Lets the schedule of faults begin anew.
  async reset() {
    await (await fetch(`http://${this.sim}/sim/reset`, { method: "POST" })).text();
  }

  // The bodies that last arrived at these providers.
  async arrived(providers) {
    const seen = await (await fetch(`http://${this.sim}/sim/requests`)).json();
    return providers.map((provider) => seen.findLast((each) => each.provider === provider).body);
  }

  tell(client) {
    console.log(`${client}: ${this.checks} checks, ${this.failed} failed`);
    process.exitCode = this.failed === 0 ? 0 : 1;
  }
}

// An error, with what a client's code would look at.
export class Raised {
  constructor(error) {
    this.error = error.constructor;
    const inner = error.error?.error ?? error.error ?? {};
    this.told = {
      name: this.error.name,
      status: error.status,
      type: inner.type,
      code: error.code ?? inner.details?.error_code,
      message: inner.message ?? error.message,
    };
  }
}

export async function tried(run, side) {
  try {
    return plain(await run(side));
  } catch (error) {
    return new Raised(error);
  }
}

// Values of an SDK as plain ones, without what is of the moment.
export function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(([key, inner]) => !OF_THE_MOMENT.has(key) && typeof inner !== "function");
  return Object.fromEntries(kept.map(([key, inner]) => [key, plain(inner)]));
}

// Where two values begin to differ.
export function apart(direct, gateway) {
  const [one, other] = [direct, gateway].map((value) => (typeof value === "string" ? value : shown(value)));
  let at = 0;
  while (at < Math.min(one.length, other.length) && one[at] === other[at]) at += 1;
  const part = (text) => text.slice(Math.max(at - 60, 0), at + 200);
  return `direct ${part(one)} but gateway ${part(other)}`;
}

export const shown = (value) => JSON.stringify(value) ?? String(value);

// What the tools of the cases work on.
export function runTool(files, name, args) {
  if (name === "read_file") return files[args.path] ?? `File not found: ${args.path}`;
  files[args.path] = args.content;
  return "written";
}

export const collect = async (items, each = (item) => item) => {
  const seen = [];
  for await (const item of items) seen.push(plain(await each(item)));
  return seen;
};

// One and the same client for a side: connections are kept.
export const kept = (make) => {
  const clients = new Map();
  return (side, apiKey = side.key, maxRetries = 0) => {
    const id = `${side.name} ${apiKey} ${maxRetries}`;
    if (!clients.has(id)) clients.set(id, make(side, { apiKey, maxRetries, timeout: MS_MAX }));
    return clients.get(id);
  };
};
