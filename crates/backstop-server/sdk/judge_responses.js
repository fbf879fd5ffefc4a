// Judges the gateway by the Responses of OpenAI's TypeScript SDK, as `judge_responses.py` does by the one for Python. Usage:
// node judge_responses.js SIM GATEWAY KEY NARROW-KEY.

import OpenAI from "openai";
import { VERSION } from "openai/version";
import { zodTextFormat } from "openai/helpers/zod";
import { ResponsesToolRunner } from "openai/helpers/responses-tool-runner";
import * as z from "zod";
import { Judgement, collect, kept, plain, runTool, shown, tried } from "./sides.js";

const PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF = "data:application/pdf;base64,JVBERi0xLjcK";
const ASK = { max_output_tokens: 500, input: "How many roads must a man walk down?" };
const MERGE = "Merge a.md, b.md and c.md into all.md";
const ABC = { "a.md": "A\n", "b.md": "B\n", "c.md": "C\n" };
const text = { type: "string" };
const TOOLS = Object.entries({ read_file: { path: text }, write_file: { path: text, content: text } }).map(([name, properties]) => ({
  type: "function",
  name,
  description: name,
  strict: true,
  parameters: { type: "object", properties, required: Object.keys(properties), additionalProperties: false },
}));
const SEALED = { reasoning: { effort: "low" }, store: false, include: ["reasoning.encrypted_content"] };
const WALK = z.object({ roads: z.number().int(), name: z.string() });
const HEADERS = ["content-type", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"];

const client = kept((side, options) => new OpenAI({ baseURL: `${side.baseURL}/v1`, ...options }));
const ask = (side, name = "responses", more = {}) => ({ model: side.model(name), ...ASK, ...more });
const fault = (name) => (name ? { headers: { "x-sim-fault": name } } : {});
const create = (side, asked, options = {}) => client(side).responses.create(asked, options);
const events = async (side, asked, options) => collect(await create(side, { ...asked, stream: true }, options));

async function streamed(side, asked) {
  const stream = client(side).responses.stream(asked);
  const seen = await collect(stream);
  return { events: seen, final: await stream.finalResponse() };
}

// What is the same in any dialect: not the ids.
function essence({ output, status, usage }) {
  const texts = output.filter(({ type }) => type === "message").flatMap(({ content }) => content.map((part) => part.text));
  const calls = output.filter(({ type }) => type === "function_call").map((item) => [item.name, JSON.parse(item.arguments)]);
  return { texts, calls, status, usage: [usage.input_tokens, usage.output_tokens] };
}

async function worked(side, name, files, streaming, more = {}) {
  const input = [{ role: "user", content: MERGE }];
  const replies = [];
  for (let turn = 0; turn < 10; turn += 1) {
    const asked = ask(side, name, { input, tools: TOOLS, ...more });
    const reply = streaming ? (await streamed(side, asked)).final : await create(side, asked);
    replies.push(plain(reply));
    const calls = reply.output.filter(({ type }) => type === "function_call");
    if (calls.length === 0) break;
    const results = calls.map((call) => {
      return { type: "function_call_output", call_id: call.call_id, output: runTool(files, call.name, JSON.parse(call.arguments)) };
    });
    input.push(...reply.output.map(({ parsed_arguments: _, ...item }) => item), ...results);
  }
  return replies;
}

async function answers(judge) {
  const parts = [
    { type: "input_image", image_url: PICTURE, detail: "low" },
    { type: "input_file", filename: "a.pdf", file_data: PDF },
    { type: "input_text", text: "What is this?" },
  ];
  const rows = {
    whole: [{}],
    "instructions, developer, whole conversation": [
      {
        instructions: "Be brief.",
        input: [
          { role: "developer", content: "Be briefer." },
          { role: "user", content: "One?" },
          { role: "assistant", content: "Two." },
          { role: "user", content: [{ type: "input_text", text: "Three\u2028four 🚦?" }] },
        ],
      },
    ],
    thinking: [{ reasoning: { effort: "high" } }],
    "sealed thinking": [SEALED],
    "picture and document": [{ input: [{ role: "user", content: parts }] }],
    JSON: [{ text: { format: { type: "json_object" } } }],
    "a tool that must be called": [{ tools: TOOLS, tool_choice: { type: "function", name: "read_file" } }],
    refusal: [{}, "refusal"],
  };
  for (const [name, [more, wrong]] of Object.entries(rows)) {
    await judge.same(`${name}, whole`, (side) => create(side, ask(side, "responses", more), fault(wrong)));
    await judge.same(`${name}, events`, (side) => events(side, ask(side, "responses", more), fault(wrong)));
  }
  await judge.same("streamed", (side) => streamed(side, ask(side)));
  for (const stream of [false, true]) {
    await judge.same(`bytes and headers, streaming ${stream}`, async (side) => {
      const got = await create(side, ask(side, "responses", { stream })).asResponse();
      // The moment is in every answer and in many events.
      return [(await got.text()).replaceAll(/"(created|completed)_at":[\d.]+/g, ""), HEADERS.map((name) => got.headers.get(name))];
    });
  }
  const reply = await create(judge.gateway, ask(judge.gateway));
  judge.check("the request id is the provider's", reply._request_id?.startsWith("req_sim"), reply._request_id);
}

async function tools(judge) {
  for (const streaming of [false, true]) {
    for (const more of [{}, SEALED]) {
      const name = `tools, streaming ${streaming}, sealed thinking ${more === SEALED}`;
      const files = { direct: { ...ABC }, gateway: { ...ABC } };
      const replies = await judge.same(name, (side) => worked(side, "responses", files[side.name], streaming, more));
      judge.check(`${name}, files`, files.gateway["all.md"] === "A\n\nB\n\nC\n" && shown(files.direct) === shown(files.gateway), files);
      if (!Array.isArray(replies)) continue;
      const most = Math.max(...replies.map(({ output }) => output.filter(({ type }) => type === "function_call").length));
      judge.check(`${name}, in parallel`, most === 3, most);
    }
  }
  for (const stream of [false, true]) {
    await judge.same(`tool runner, streaming ${stream}`, (side) => run(side, "responses", stream));
    for (const name of ["chat", "messages"]) {
      await judge.onlyGateway(`tool runner with ${name}, streaming ${stream}`, (side) => run(side, name, stream), ([, files]) => files["all.md"] === "A\n\nB\n\nC\n");
    }
  }
  await judge.same("parse", (side) => parsed(side, "responses"));
}

async function run(side, name, stream) {
  const files = { ...ABC };
  const functions = TOOLS.map((tool) => ({ tool, execute: (args) => runTool(files, tool.name, args) }));
  const runner = new ResponsesToolRunner({ functions });
  const reply = await runner.run(client(side), ask(side, name, { input: [{ role: "user", content: MERGE }] }), { stream });
  return [plain(reply), files];
}

async function parsed(side, name) {
  const asked = ask(side, name, { text: { format: zodTextFormat(WALK, "walk") } });
  return (await client(side).responses.parse(asked)).output_parsed;
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
    unprocessable: OpenAI.UnprocessableEntityError,
    "rate-limit:ms=5": OpenAI.RateLimitError,
    "credit-exhausted": OpenAI.RateLimitError,
    server: OpenAI.InternalServerError,
    overloaded: OpenAI.InternalServerError,
  };
  // What was tried again is told in the gateway's own words, which have one type for each kind.
  const only = ["status", "code", "message"];
  for (const [name, error] of Object.entries(rows)) {
    await judge.raises(name, error, (side) => create(side, ask(side), fault(name)), only);
    await judge.raises(`${name}, streamed`, error, (side) => events(side, ask(side), fault(name)), only);
  }
  const late = fault("in-stream-late:overloaded");
  await judge.raises("in the stream", OpenAI.APIError, (side) => events(side, ask(side), late), ["code", "message"]);
  const long = { max_output_tokens: 16, input: "word ".repeat(9_000) };
  await judge.raises("too long", OpenAI.BadRequestError, (side) => create(side, ask(side, "responses-small", long)));
  await judge.raises("no such model", OpenAI.NotFoundError, (side) => create(side, ask(side, "responses-nothing")));
  const goneOn = { previous_response_id: "resp_unknown" };
  await judge.raises("a response that nobody kept", OpenAI.BadRequestError, (side) => create(side, ask(side, "responses", goneOn)));
  const stranger = (side) => client(side, side.isDirect ? "wrong" : side.key).responses.create(ask(side, "stranger-responses"));
  await judge.raises("a wrong key", OpenAI.AuthenticationError, stranger, ["status", "type", "code"]);
}

async function failover(judge) {
  const whole = shown(plain(essence(await create(judge.direct, ask(judge.direct)))));
  const isWhole = (seen) => shown(seen) === whole;
  for (const name of ["chat", "messages", "down-responses", "down-responses-across"]) {
    await judge.onlyGateway(`whole with ${name}`, async (side) => essence(await create(side, ask(side, name))), isWhole);
    await judge.onlyGateway(`streamed with ${name}`, async (side) => essence((await streamed(side, ask(side, name))).final), isWhole);
    for (const streaming of [false, true]) {
      const files = { ...ABC };
      const done = () => files["all.md"] === "A\n\nB\n\nC\n";
      await judge.onlyGateway(`tools with ${name}, streaming ${streaming}`, (side) => worked(side, name, files, streaming, SEALED), done);
    }
    await judge.onlyGateway(`parse with ${name}`, (side) => parsed(side, name), (seen) => Number.isInteger(seen.roads));
  }
  for (const name of ["chat", "messages"]) {
    const seen = await tried((side) => create(side, ask(side, name, { previous_response_id: "resp_unknown" })), judge.gateway);
    judge.check(`a kept response with ${name} is refused`, seen.error === OpenAI.BadRequestError, seen);
  }
  for (const streaming of [false, true]) {
    await judge.reset();
    const twice = async (side) => (streaming ? (await streamed(side, ask(side, "twice-responses"))).final : create(side, ask(side, "twice-responses")));
    await judge.onlyGateway(`two rate limits, streaming ${streaming}`, async (side) => essence(await twice(side)), isWhole);
  }
  for (const name of ["cut-at:900", "end-early", "malformed-stream:5"]) {
    const seen = await tried((side) => events(side, ask(side), fault(name)), judge.gateway);
    judge.check(`a stream that is cut (${name}) raises`, seen.error?.prototype instanceof OpenAI.OpenAIError, seen);
  }
}

const judge = new Judgement(process.argv.slice(2));
for (const cases of [answers, tools, errors, failover]) await cases(judge);
judge.tell(`openai ${VERSION} (Node.js ${process.versions.node}), Responses`);
