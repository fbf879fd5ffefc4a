// Judges the gateway by Anthropic's TypeScript SDK, as `judge_anthropic.py` does by the one for Python: every case is asked at
// the simulated provider itself and through the gateway. Usage: node judge_anthropic.js SIM GATEWAY KEY NARROW-KEY.

import Anthropic from "@anthropic-ai/sdk";
import { VERSION } from "@anthropic-ai/sdk/version";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import * as z from "zod";
import { Judgement, Raised, collect, kept, plain, runTool, shown, tried } from "./sides.js";

const PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF = "JVBERi0xLjcK";
const said = (content) => [{ role: "user", content }];
const ASK = { max_tokens: 500, messages: said("How many roads must a man walk down?") };
const COUNT = "Count the words in notes.md and write the number to count.txt";
const MERGE = "Merge a.md, b.md and c.md into all.md";
const ABC = { "a.md": "A\n", "b.md": "B\n", "c.md": "C\n" };
const SCHEMAS = {
  read_file: z.object({ path: z.string() }),
  write_file: z.object({ path: z.string(), content: z.string() }),
};
const TOOLS = Object.entries(SCHEMAS).map(([name, schema]) => {
  const { $schema, ...input_schema } = z.toJSONSchema(schema);
  return { name, description: name, input_schema };
});
const WALK = z.object({ roads: z.number().int(), name: z.string() });
const HEADERS = ["content-type", "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-remaining"];

const client = kept((side, options) => new Anthropic({ baseURL: side.baseURL, ...options }));
const ask = (side, name = "messages", more = {}) => ({ model: side.model(name), ...ASK, ...more });
const fault = (name) => (name ? { headers: { "x-sim-fault": name } } : {});
const create = (side, asked, options = {}) => client(side).messages.create(asked, options);

async function streamed(side, asked, options = {}) {
  const stream = client(side).messages.stream(asked, options);
  const events = await collect(stream);
  return { events, final: await stream.finalMessage() };
}

// What is the same in either dialect: not the ids.
function essence({ content, stop_reason: stop, usage }) {
  const keep = ({ type, text, name, input }) => ({ type, text, name, input });
  return { content: content.map(keep), stop, usage: [usage.input_tokens, usage.output_tokens] };
}

async function worked(side, name, task, files, streaming) {
  const messages = said(task);
  const replies = [];
  for (let turn = 0; turn < 10; turn += 1) {
    const asked = ask(side, name, { messages, tools: TOOLS });
    const reply = streaming ? (await streamed(side, asked)).final : await create(side, asked);
    replies.push(reply);
    if (reply.stop_reason !== "tool_use") break;
    const uses = reply.content.filter((block) => block.type === "tool_use");
    const results = uses.map(({ id, name, input }) => ({ type: "tool_result", tool_use_id: id, content: runTool(files, name, input) }));
    messages.push({ role: "assistant", content: reply.content }, { role: "user", content: results });
  }
  return replies;
}

async function answers(judge) {
  const block = (type, media_type, data) => ({ type, source: { type: "base64", media_type, data } });
  const rows = {
    whole: [{}],
    "system, whole conversation, stop sequence": [
      {
        system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
        messages: [...said("One?"), { role: "assistant", content: "Two." }, ...said("Three\u2028four 🚦?")],
        stop_sequences: ["simulated"],
        metadata: { user_id: '{"a":1}' },
      },
    ],
    "cut at max_tokens": [{ max_tokens: 3 }],
    thinking: [{ max_tokens: 2000, thinking: { type: "enabled", budget_tokens: 1024 } }],
    "picture and document": [
      { messages: said([block("image", "image/png", PICTURE), block("document", "application/pdf", PDF), { type: "text", text: "What?" }]) },
    ],
    "a large picture": [{ messages: said([block("image", "image/png", PICTURE + "A".repeat(2_000_000)), { type: "text", text: "And?" }]) }],
    "a tool that must be called": [{ tools: TOOLS, tool_choice: { type: "tool", name: "read_file" } }],
    refusal: [{}, "refusal"],
    "paused turn": [{}, "pause"],
  };
  for (const [name, [more, wrong]] of Object.entries(rows)) {
    await judge.same(`${name}, whole`, (side) => create(side, ask(side, "messages", more), fault(wrong)));
    await judge.same(`${name}, streamed`, (side) => streamed(side, ask(side, "messages", more), fault(wrong)));
  }
  await judge.same("events", async (side) => collect(await create(side, ask(side, "messages", { stream: true }))));
  await judge.same("count", (side) => client(side).messages.countTokens({ model: side.model("messages"), messages: said("a b c") }));
  const roads = Array.from({ length: 20 }, (_, n) => said(`Road ${n}?`));
  await judge.same("many at once", (side) => Promise.all(roads.map((messages) => create(side, ask(side, "messages", { messages })))));
  for (const stream of [false, true]) {
    await judge.same(`bytes and headers, streaming ${stream}`, async (side) => {
      const got = await create(side, ask(side, "messages", { stream })).asResponse();
      return [await got.text(), HEADERS.map((name) => got.headers.get(name))];
    });
  }
  const reply = await create(judge.gateway, ask(judge.gateway));
  judge.check("the request id is the provider's", reply._request_id?.startsWith("req_sim"), reply._request_id);
}

async function run(side, name, stream, options) {
  const files = { "notes.md": "one two three" };
  const tools = Object.entries(SCHEMAS).map(([tool, inputSchema]) =>
    betaZodTool({ name: tool, description: tool, inputSchema, run: (args) => runTool(files, tool, args) }),
  );
  const runner = client(side).beta.messages.toolRunner({ ...ask(side, name, { messages: said(COUNT) }), tools, stream, ...options });
  return [await collect(runner, (item) => (stream ? item.finalMessage() : item)), files];
}

async function tools(judge) {
  for (const streaming of [false, true]) {
    for (const [task, begun] of [[COUNT, { "notes.md": "one two three" }], [MERGE, ABC]]) {
      const name = `${task.split(" ")[0]} with tools, streaming ${streaming}`;
      const files = { direct: { ...begun }, gateway: { ...begun } };
      const replies = await judge.same(name, (side) => worked(side, "messages", task, files[side.name], streaming));
      const grown = Object.keys(files.gateway).length > Object.keys(begun).length;
      judge.check(`${name}, files`, grown && shown(files.direct) === shown(files.gateway), files);
      if (task !== MERGE || !Array.isArray(replies)) continue;
      const most = Math.max(...replies.map(({ content }) => content.filter(({ type }) => type === "tool_use").length));
      judge.check(`${name}, in parallel`, most === 3, most);
    }
    for (const options of [{}, { thread: false }]) {
      await judge.same(`tool runner, streaming ${streaming}, ${shown(options)}`, (side) => run(side, "messages", streaming, options));
      const goesOn = (await judge.arrived(["direct", "messages"])).map((body) => body.includes("previous_message_id"));
      judge.check(`threads are used, ${shown(options)}`, goesOn.every((goes) => goes === !("thread" in options)), goesOn);
    }
    // A conversation that the provider keeps is never lost on the way.
    for (const name of ["plain", "chat", "down", "down-across"]) {
      await judge.onlyGateway(`tool runner with ${name}, streaming ${streaming}`, (side) => run(side, name, streaming, {}), ([, files]) => files["count.txt"] === "3\n");
    }
  }
  await judge.same("parse", (side) => parsed(side, "messages"));
}

async function parsed(side, name) {
  const asked = ask(side, name, { output_config: { format: zodOutputFormat(WALK) } });
  return (await client(side).messages.parse(asked)).parsed_output;
}

async function errors(judge) {
  const rows = {
    invalid: Anthropic.BadRequestError,
    "context-length": Anthropic.BadRequestError,
    "own-spend-limit": Anthropic.BadRequestError,
    policy: Anthropic.BadRequestError,
    authentication: Anthropic.AuthenticationError,
    billing: Anthropic.PaymentRequiredError,
    permission: Anthropic.PermissionDeniedError,
    "not-found": Anthropic.NotFoundError,
    conflict: Anthropic.ConflictError,
    "too-large": Anthropic.ContentTooLargeError,
    unprocessable: Anthropic.UnprocessableEntityError,
    "rate-limit:ms=5": Anthropic.RateLimitError,
    "enforced-spend-limit": Anthropic.EnforcedSpendLimitReachedError,
    server: Anthropic.InternalServerError,
    timeout: Anthropic.GatewayTimeoutError,
    overloaded: Anthropic.OverloadedError,
  };
  for (const [name, error] of Object.entries(rows)) {
    await judge.raises(name, error, (side) => create(side, ask(side), fault(name)));
    await judge.raises(`${name}, streamed`, error, (side) => streamed(side, ask(side), fault(name)));
  }
  await judge.raises("in the stream", Anthropic.APIError, (side) => streamed(side, ask(side), fault("in-stream-late:overloaded")), ["type"]);
  const long = { max_tokens: 10, messages: said("word ".repeat(9_000)) };
  await judge.raises("too long", Anthropic.BadRequestError, (side) => create(side, ask(side, "messages-small", long)));
  await judge.raises("no such model", Anthropic.NotFoundError, (side) => create(side, ask(side, "messages-nothing")));
  await judge.raises("a wrong request", Anthropic.BadRequestError, (side) => create(side, ask(side, "messages", { messages: [] })));
  const stranger = (side) => client(side, side.isDirect ? "wrong" : side.key).messages.create(ask(side, "stranger"));
  await judge.raises("a wrong key", Anthropic.AuthenticationError, stranger, ["status", "type"]);
}

// A key that does not open is told by the class that its client knows, with what is wrong about it.
async function keys(judge) {
  const rows = [["no key", "none", Anthropic.AuthenticationError], ["a key for other models", judge.narrowKey, Anthropic.PermissionDeniedError]];
  for (const [name, key, error] of rows) {
    const seen = await tried((side) => client(side, key).messages.create(ask(side)), judge.gateway);
    judge.check(name, seen instanceof Raised && seen.error === error && seen.told.message.includes("key"), seen);
  }
}

async function failover(judge) {
  const whole = shown(plain(essence(await create(judge.direct, ask(judge.direct)))));
  const isWhole = (seen) => shown(seen) === whole;
  for (const name of ["chat", "down", "down-across"]) {
    await judge.onlyGateway(`whole with ${name}`, async (side) => essence(await create(side, ask(side, name))), isWhole);
    await judge.onlyGateway(`streamed with ${name}`, async (side) => essence((await streamed(side, ask(side, name))).final), isWhole);
    for (const streaming of [false, true]) {
      const files = { ...ABC };
      const done = () => files["all.md"] === "A\n\nB\n\nC\n";
      await judge.onlyGateway(`tools with ${name}, streaming ${streaming}`, (side) => worked(side, name, MERGE, files, streaming), done);
    }
    await judge.onlyGateway(`parse with ${name}`, (side) => parsed(side, name), (seen) => Number.isInteger(seen.roads));
  }
  for (const streaming of [false, true]) {
    await judge.reset();
    const twice = async (side) => (streaming ? (await streamed(side, ask(side, "twice"))).final : create(side, ask(side, "twice")));
    await judge.onlyGateway(`two rate limits, streaming ${streaming}`, async (side) => essence(await twice(side)), isWhole);
  }
  await judge.reset();
  const begun = performance.now();
  const waited = await tried((side) => client(side, side.key, 1).messages.create(ask(side, "thrice")), judge.gateway);
  // Twice the gateway, and once the client.
  judge.check("the client waits as long as it is told, and is answered", waited.stop_reason === "end_turn" && performance.now() - begun >= 2_100, waited);
  for (const name of ["cut-at:900", "end-early", "malformed-stream:5"]) {
    const seen = await tried((side) => streamed(side, ask(side), fault(name)), judge.gateway);
    judge.check(`a stream that is cut (${name}) raises`, seen.error?.prototype instanceof Anthropic.AnthropicError, seen);
  }
  const models = await collect(client(judge.gateway).models.list(), ({ id }) => id);
  judge.check("models", ["messages", "down", "chat"].every((id) => models.includes(id)), models);
}

const judge = new Judgement(process.argv.slice(2));
for (const cases of [answers, tools, errors, keys, failover]) await cases(judge);
judge.tell(`@anthropic-ai/sdk ${VERSION} (Node.js ${process.versions.node})`);
