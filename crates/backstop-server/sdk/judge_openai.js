// Judges the gateway by OpenAI's TypeScript SDK, as `judge_openai.py` does by the one for Python. Usage: node judge_openai.js
// SIM GATEWAY KEY NARROW-KEY.

import OpenAI from "openai";
import { VERSION } from "openai/version";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import * as z from "zod";
import { Judgement, Raised, collect, kept, plain, runTool, shown, tried } from "./sides.js";

const PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const said = (content) => [{ role: "user", content }];
const ASK = { max_tokens: 500, messages: said("How many roads must a man walk down?") };
const COUNT = "Count the words in notes.md and write the number to count.txt";
const MERGE = "Merge a.md, b.md and c.md into all.md";
const ABC = { "a.md": "A\n", "b.md": "B\n", "c.md": "C\n" };
const SCHEMAS = {
  read_file: z.object({ path: z.string() }),
  write_file: z.object({ path: z.string(), content: z.string() }),
};
const runnable = (files) =>
  Object.entries(SCHEMAS).map(([name, parameters]) => zodFunction({ name, parameters, function: (args) => runTool(files, name, args) }));
const TOOLS = runnable({}).map(({ type, function: { name, parameters } }) => ({ type, function: { name, parameters } }));
const WALK = z.object({ roads: z.number().int(), name: z.string() });
const HEADERS = ["content-type", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"];
const WITH_USAGE = { stream: true, stream_options: { include_usage: true } };

const client = kept((side, options) => new OpenAI({ baseURL: `${side.baseURL}/v1`, ...options }));
const completions = (side) => client(side).chat.completions;
const ask = (side, name = "chat", more = {}) => ({ model: side.model(name), ...ASK, ...more });
const fault = (name) => (name ? { headers: { "x-sim-fault": name } } : {});
const create = (side, asked, options = {}) => completions(side).create(asked, options);

async function streamed(side, asked, options = {}) {
  const stream = completions(side).stream(asked, options);
  const events = await collect(stream);
  return { events, final: await stream.finalChatCompletion() };
}

// What is the same in either dialect: not the ids.
function essence({ choices: [{ message, finish_reason: finish }], usage }) {
  const calls = (message.tool_calls ?? []).map(({ function: { name, arguments: args } }) => [name, JSON.parse(args)]);
  return { content: message.content, calls, finish, usage: [usage.prompt_tokens, usage.completion_tokens] };
}

async function worked(side, name, task, files, streaming) {
  const messages = said(task);
  const replies = [];
  for (let turn = 0; turn < 10; turn += 1) {
    const asked = ask(side, name, { messages, tools: TOOLS });
    const reply = streaming ? (await streamed(side, asked)).final : await create(side, asked);
    replies.push(reply);
    const { content, tool_calls: calls } = reply.choices[0].message;
    if (!calls?.length) break;
    messages.push({ role: "assistant", content, tool_calls: calls.map(({ id, type, function: { name, arguments: args } }) => ({ id, type, function: { name, arguments: args } })) });
    for (const { id, function: { name, arguments: args } } of calls) {
      messages.push({ role: "tool", tool_call_id: id, content: runTool(files, name, JSON.parse(args)) });
    }
  }
  return replies;
}

async function answers(judge) {
  const rows = {
    whole: [{}],
    "system, developer, whole conversation, stop": [
      {
        messages: [
          { role: "system", content: "Be brief." },
          ...said("One?"),
          { role: "assistant", content: "Two." },
          { role: "developer", content: [{ type: "text", text: "Be briefer." }] },
          ...said("Three\u2028four 🚦?"),
        ],
        stop: ["simulated"],
        temperature: 0.3,
      },
    ],
    reasoning: [{ reasoning_effort: "high" }],
    picture: [{ messages: said([{ type: "image_url", image_url: { url: PICTURE, detail: "low" } }, { type: "text", text: "What is this?" }]) }],
    "a large picture": [{ messages: said([{ type: "image_url", image_url: { url: PICTURE + "A".repeat(2_000_000) } }, { type: "text", text: "And?" }]) }],
    JSON: [{ response_format: { type: "json_object" } }],
    "a tool that must be called": [{ tools: TOOLS, tool_choice: { type: "function", function: { name: "read_file" } } }],
    "cut short": [{ max_tokens: undefined, max_completion_tokens: 3 }],
    refusal: [{}, "refusal"],
  };
  for (const [name, [more, wrong]] of Object.entries(rows)) {
    await judge.same(`${name}, whole`, (side) => create(side, ask(side, "chat", more), fault(wrong)));
    await judge.same(`${name}, streamed`, (side) => streamed(side, ask(side, "chat", more), fault(wrong)));
  }
  const usages = (chunks) => (Array.isArray(chunks) ? chunks.filter(({ usage }) => usage).length : chunks);
  const asked = await judge.same("chunks with usage", async (side) => collect(await create(side, ask(side, "chat", WITH_USAGE))));
  judge.check("one usage", usages(asked) === 1, usages(asked));
  const unasked = await judge.same("chunks without usage", async (side) => collect(await create(side, ask(side, "chat", { stream: true }))));
  judge.check("no usage that was not asked for", usages(unasked) === 0, usages(unasked));
  const roads = Array.from({ length: 20 }, (_, n) => said(`Road ${n}?`));
  await judge.same("many at once", (side) => Promise.all(roads.map((messages) => create(side, ask(side, "chat", { messages })))));
  for (const more of [{}, WITH_USAGE]) {
    await judge.same(`bytes and headers, ${shown(more)}`, async (side) => {
      const got = await create(side, ask(side, "chat", more)).asResponse();
      // The moment is in every answer and every chunk.
      return [(await got.text()).replaceAll(/"created":\d+/g, '"created":0'), HEADERS.map((name) => got.headers.get(name))];
    });
  }
  const reply = await create(judge.gateway, ask(judge.gateway));
  judge.check("the request id is the provider's", reply._request_id?.startsWith("req_sim"), reply._request_id);
}

async function run(side, name, stream) {
  const files = { "notes.md": "one two three" };
  const runner = completions(side).runTools({ ...ask(side, name, { messages: said(COUNT) }), tools: runnable(files), stream });
  const content = await runner.finalContent();
  return [content, plain(runner.messages), files];
}

async function tools(judge) {
  for (const streaming of [false, true]) {
    for (const [task, begun] of [[COUNT, { "notes.md": "one two three" }], [MERGE, ABC]]) {
      const name = `${task.split(" ")[0]} with tools, streaming ${streaming}`;
      const files = { direct: { ...begun }, gateway: { ...begun } };
      const replies = await judge.same(name, (side) => worked(side, "chat", task, files[side.name], streaming));
      const grown = Object.keys(files.gateway).length > Object.keys(begun).length;
      judge.check(`${name}, files`, grown && shown(files.direct) === shown(files.gateway), files);
      if (task !== MERGE || !Array.isArray(replies)) continue;
      const most = Math.max(...replies.map(({ choices: [{ message }] }) => message.tool_calls?.length ?? 0));
      judge.check(`${name}, in parallel`, most === 3, most);
    }
    await judge.same(`tool runner, streaming ${streaming}`, (side) => run(side, "chat", streaming));
    for (const name of ["messages", "down-chat-across"]) {
      await judge.onlyGateway(`tool runner with ${name}, streaming ${streaming}`, (side) => run(side, name, streaming), ([, , files]) => files["count.txt"] === "3\n");
    }
  }
  await judge.same("parse", (side) => parsed(side, "chat"));
}

async function parsed(side, name) {
  const asked = ask(side, name, { response_format: zodResponseFormat(WALK, "walk") });
  return (await completions(side).parse(asked)).choices[0].message.parsed;
}

async function errors(judge) {
  const rows = {
    invalid: OpenAI.BadRequestError,
    "context-length": OpenAI.BadRequestError,
    policy: OpenAI.BadRequestError,
    authentication: OpenAI.AuthenticationError,
    permission: OpenAI.PermissionDeniedError,
    "not-found": OpenAI.NotFoundError,
    conflict: OpenAI.ConflictError,
    "too-large": OpenAI.APIError,
    unprocessable: OpenAI.UnprocessableEntityError,
    "rate-limit:ms=5": OpenAI.RateLimitError,
    "slow-down:ms=5": OpenAI.RateLimitError,
    "credit-exhausted": OpenAI.RateLimitError,
    "project-spend-limit": OpenAI.RateLimitError,
    server: OpenAI.InternalServerError,
    timeout: OpenAI.InternalServerError,
    overloaded: OpenAI.InternalServerError,
  };
  // What was tried again is told in the gateway's own words, which have one type for each kind.
  const only = ["status", "code", "message"];
  for (const [name, error] of Object.entries(rows)) {
    await judge.raises(name, error, (side) => create(side, ask(side), fault(name)), only);
    await judge.raises(`${name}, streamed`, error, (side) => streamed(side, ask(side), fault(name)), only);
  }
  await judge.raises("in the stream", OpenAI.APIError, (side) => streamed(side, ask(side), fault("in-stream-late:overloaded")));
  const long = { max_tokens: 10, messages: said("word ".repeat(9_000)) };
  await judge.raises("too long", OpenAI.BadRequestError, (side) => create(side, ask(side, "chat-small", long)));
  await judge.raises("no such model", OpenAI.NotFoundError, (side) => create(side, ask(side, "chat-nothing")));
  await judge.raises("a wrong request", OpenAI.BadRequestError, (side) => create(side, ask(side, "chat", { messages: [] })));
  const stranger = (side) => client(side, side.isDirect ? "wrong" : side.key).chat.completions.create(ask(side, "stranger-chat"));
  await judge.raises("a wrong key", OpenAI.AuthenticationError, stranger, ["status", "type", "code"]);
}

// A key that does not open is told by the class that its client knows, with what is wrong about it.
async function keys(judge) {
  const rows = [["no key", "none", OpenAI.AuthenticationError], ["a key for other models", judge.narrowKey, OpenAI.PermissionDeniedError]];
  for (const [name, key, error] of rows) {
    const seen = await tried((side) => client(side, key).chat.completions.create(ask(side)), judge.gateway);
    judge.check(name, seen instanceof Raised && seen.error === error && seen.told.message.includes("key"), seen);
  }
}

async function failover(judge) {
  const whole = shown(plain(essence(await create(judge.direct, ask(judge.direct)))));
  const isWhole = (seen) => shown(seen) === whole;
  const asStream = async (side, name) => essence((await streamed(side, ask(side, name, WITH_USAGE))).final);
  for (const name of ["messages", "down-chat", "down-chat-across"]) {
    await judge.onlyGateway(`whole with ${name}`, async (side) => essence(await create(side, ask(side, name))), isWhole);
    await judge.onlyGateway(`streamed with ${name}`, (side) => asStream(side, name), isWhole);
    for (const streaming of [false, true]) {
      const files = { ...ABC };
      const done = () => files["all.md"] === "A\n\nB\n\nC\n";
      await judge.onlyGateway(`tools with ${name}, streaming ${streaming}`, (side) => worked(side, name, MERGE, files, streaming), done);
    }
    await judge.onlyGateway(`parse with ${name}`, (side) => parsed(side, name), (seen) => Number.isInteger(seen.roads));
  }
  for (const streaming of [false, true]) {
    await judge.reset();
    const twice = async (side) => (streaming ? asStream(side, "twice-chat") : essence(await create(side, ask(side, "twice-chat"))));
    await judge.onlyGateway(`two rate limits, streaming ${streaming}`, twice, isWhole);
  }
  await judge.reset();
  const begun = performance.now();
  const waited = await tried((side) => client(side, side.key, 1).chat.completions.create(ask(side, "thrice-chat")), judge.gateway);
  // Twice the gateway, and once the client.
  judge.check("the client waits as long as it is told, and is answered", waited.choices?.length === 1 && performance.now() - begun >= 2_100, waited);
  for (const name of ["cut-at:900", "end-early", "malformed-stream:5"]) {
    const seen = await tried((side) => streamed(side, ask(side), fault(name)), judge.gateway);
    judge.check(`a stream that is cut (${name}) raises`, seen.error?.prototype instanceof OpenAI.OpenAIError, seen);
  }
  const models = await collect(client(judge.gateway).models.list(), ({ id }) => id);
  judge.check("models", ["messages", "down", "chat"].every((id) => models.includes(id)), models);
}

const judge = new Judgement(process.argv.slice(2));
for (const cases of [answers, tools, errors, keys, failover]) await cases(judge);
judge.tell(`openai ${VERSION} (Node.js ${process.versions.node})`);
