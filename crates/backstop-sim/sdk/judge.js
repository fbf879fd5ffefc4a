// Judges the simulated provider by the official TypeScript SDKs: what they accept as their own API's answers, and which of
// their error classes each error becomes. Usage: node judge.js ADDRESS, where the example `serve` listens. Exits 1 when
// something is not as it should be. Traffic goes to loopback only.

import Anthropic from "@anthropic-ai/sdk";
import { VERSION as ANTHROPIC } from "@anthropic-ai/sdk/version";
import OpenAI from "openai";
import { VERSION as OPENAI } from "openai/version";

const MS_MAX = 30_000;
const ASK = [{ role: "user", content: "How many roads must a man walk down?" }];
const TASK = "Count the words in notes.md and write the number to count.txt";
const TOOLS = {
  read_file: { type: "object", properties: { path: { type: "string" } }, required: ["path"] },
  write_file: {
    type: "object",
    properties: { path: { type: "string" }, content: { type: "string" } },
    required: ["path", "content"],
  },
};

let checks = 0;
let failed = 0;

function check(name, so, seen) {
  checks += 1;
  if (!so) {
    failed += 1;
    console.log(`NOT SO: ${name}:`, seen);
  }
}

// The class is what is judged: a subclass is another class.
async function raises(name, error, call) {
  try {
    check(name, false, await call());
  } catch (caught) {
    check(name, caught.constructor === error, caught);
    return caught;
  }
}

function execute(files, name, args) {
  if (name === "read_file") return files[args.path] ?? `File not found: ${args.path}`;
  files[args.path] = args.content;
  return "written";
}

const fault = (name) => ({ headers: { "x-sim-fault": name } });

async function judgeAnthropic(address) {
  const options = { baseURL: `http://${address}/p/a`, apiKey: "sim-key", maxRetries: 0, timeout: MS_MAX };
  const client = new Anthropic(options);
  const ask = { model: "sim", max_tokens: 500, messages: ASK };
  const whole = await client.messages.create(ask);
  check("anthropic whole", whole.content[0].text.includes("roads") && whole.stop_reason === "end_turn", whole);
  check("anthropic request id", whole._request_id?.startsWith("req_sim"), whole._request_id);
  const final = await client.messages.stream(ask).finalMessage();
  check("anthropic stream says the same", final.content[0].text === whole.content[0].text, final);
  check("anthropic stream usage", final.usage.output_tokens === whole.usage.output_tokens, final.usage);
  check("anthropic input usage", final.usage.input_tokens === whole.usage.input_tokens, final.usage);
  const kinds = [];
  for await (const event of await client.messages.create({ ...ask, stream: true })) kinds.push(event.type);
  check("anthropic events", kinds[0] === "message_start" && kinds.at(-1) === "message_stop", kinds);
  const budget = { type: "enabled", budget_tokens: 1024 };
  const thinking = await client.messages.create({ ...ask, max_tokens: 2000, thinking: budget });
  check("anthropic thinking", thinking.content.map((b) => b.type).join() === "thinking,text", thinking);
  const count = await client.messages.countTokens({ model: "sim", messages: ASK });
  check("anthropic count", count.input_tokens === whole.usage.input_tokens, count);
  const models = (await client.models.list()).data.map((model) => model.id);
  check("anthropic models", models.join() === "sim,sim-small", models);
  for (const streaming of [false, true]) {
    const files = { "notes.md": "one two three" };
    await judgeAnthropicTools(client, files, streaming);
    check(`anthropic tools, streaming ${streaming}`, files["count.txt"] === "3\n", files);
  }
  const refused = await client.messages.create(ask, fault("refusal"));
  check("anthropic refusal", refused.stop_reason === "refusal", refused);
  await judgeAnthropicErrors(client, ask);
}

async function judgeAnthropicTools(client, files, streaming) {
  const tools = Object.entries(TOOLS).map(([name, input_schema]) => ({ name, description: "", input_schema }));
  const messages = [{ role: "user", content: TASK }];
  for (let turn = 0; turn < 10; turn += 1) {
    const ask = { model: "sim", max_tokens: 500, messages, tools };
    const reply = streaming ? await client.messages.stream(ask).finalMessage() : await client.messages.create(ask);
    if (reply.stop_reason !== "tool_use") return;
    const uses = reply.content.filter((block) => block.type === "tool_use");
    const results = uses.map((use) => {
      return { type: "tool_result", tool_use_id: use.id, content: execute(files, use.name, use.input) };
    });
    messages.push({ role: "assistant", content: reply.content }, { role: "user", content: results });
  }
}

async function judgeAnthropicErrors(client, ask) {
  const rows = {
    invalid: Anthropic.BadRequestError,
    "context-length": Anthropic.BadRequestError,
    "own-spend-limit": Anthropic.BadRequestError,
    authentication: Anthropic.AuthenticationError,
    billing: Anthropic.PaymentRequiredError,
    permission: Anthropic.PermissionDeniedError,
    "not-found": Anthropic.NotFoundError,
    conflict: Anthropic.ConflictError,
    unprocessable: Anthropic.UnprocessableEntityError,
    "rate-limit": Anthropic.RateLimitError,
    server: Anthropic.InternalServerError,
    "enforced-spend-limit": Anthropic.EnforcedSpendLimitReachedError,
    overloaded: Anthropic.OverloadedError,
    "cut-before-body": Anthropic.APIConnectionError,
  };
  for (const [name, error] of Object.entries(rows)) {
    await raises(`anthropic ${name}`, error, () => client.messages.create(ask, fault(name)));
  }
  const stranger = client.withOptions({ apiKey: "wrong" });
  await raises("anthropic wrong key", Anthropic.AuthenticationError, () => stranger.messages.create(ask));
  const told = { "in-stream:overloaded": "overloaded_error", "in-stream-late:server": "api_error" };
  for (const [name, type] of Object.entries(told)) {
    const stream = () => client.messages.stream(ask, fault(name)).finalMessage();
    const caught = await raises(`anthropic ${name}`, Anthropic.APIError, stream);
    check(`anthropic ${name} type`, caught?.error?.error?.type === type, caught);
  }
}

async function judgeOpenAI(address) {
  const options = { baseURL: `http://${address}/p/b/v1`, apiKey: "sim-key", maxRetries: 0, timeout: MS_MAX };
  const client = new OpenAI(options);
  const completions = client.chat.completions;
  const ask = { model: "sim", max_tokens: 500, messages: ASK };
  const whole = await completions.create(ask);
  const text = whole.choices[0].message.content;
  check("openai whole", text.includes("roads") && whole.choices[0].finish_reason === "stop", whole);
  check("openai request id", whole._request_id?.startsWith("req_sim"), whole._request_id);
  const chunks = [];
  const streamed = { ...ask, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await completions.create(streamed)) chunks.push(chunk);
  const said = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  check("openai stream says the same", said === text, said);
  const usage = chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.total_tokens);
  check("openai stream usage", usage.length === 1 && usage[0] === whole.usage.total_tokens, usage);
  const models = (await client.models.list()).data.map((model) => model.id);
  check("openai models", models.join() === "sim,sim-small", models);
  for (const streaming of [false, true]) {
    const files = { "notes.md": "one two three" };
    await judgeOpenAITools(completions, files, streaming);
    check(`openai tools, streaming ${streaming}`, files["count.txt"] === "3\n", files);
  }
  const shape = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };
  const format = { type: "json_schema", json_schema: { name: "s", schema: shape } };
  const fitted = await completions.create({ ...ask, response_format: format });
  check("openai structured", fitted.choices[0].message.content === '{"n":0}', fitted);
  await judgeOpenAIErrors("openai", completions, ask);
}

async function judgeOpenAITools(completions, files, streaming) {
  const tools = Object.entries(TOOLS).map(([name, parameters]) => ({ type: "function", function: { name, parameters } }));
  const messages = [{ role: "user", content: TASK }];
  for (let turn = 0; turn < 10; turn += 1) {
    const ask = { model: "sim", messages, tools };
    const reply = streaming ? await completions.stream(ask).finalChatCompletion() : await completions.create(ask);
    const { content, tool_calls: calls } = reply.choices[0].message;
    if (!calls?.length) return;
    messages.push({ role: "assistant", content, tool_calls: calls.map(({ id, type, function: f }) => ({ id, type, function: f })) });
    for (const call of calls) {
      const result = execute(files, call.function.name, JSON.parse(call.function.arguments));
      messages.push({ role: "tool", tool_call_id: call.id, content: result });
    }
  }
}

async function judgeResponses(address) {
  const options = { baseURL: `http://${address}/p/c/v1`, apiKey: "sim-key", maxRetries: 0, timeout: MS_MAX };
  const { responses } = new OpenAI(options);
  const ask = { model: "sim", max_output_tokens: 500, input: ASK };
  const whole = await responses.create(ask);
  check("responses whole", whole.output_text.includes("roads") && whole.status === "completed", whole);
  check("responses request id", whole._request_id?.startsWith("req_sim"), whole._request_id);
  const final = await responses.stream(ask).finalResponse();
  check("responses stream says the same", final.output_text === whole.output_text, final);
  check("responses stream usage", final.usage.total_tokens === whole.usage.total_tokens, final.usage);
  const events = [];
  for await (const event of await responses.create({ ...ask, stream: true })) events.push(event);
  check("responses events", events.every((event, at) => event.sequence_number === at), events);
  const ends = [events[0].type, events.at(-1).type].join();
  check("responses begin and end", ends === "response.created,response.completed", ends);
  const said = events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");
  check("responses deltas", said === whole.output_text, said);
  await judgeThoughts(responses, ask);
  for (const streaming of [false, true]) {
    const files = { "notes.md": "one two three" };
    await judgeResponsesTools(responses, files, streaming);
    check(`responses tools, streaming ${streaming}`, files["count.txt"] === "3\n", files);
  }
  const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };
  const text = { format: { type: "json_schema", name: "s", schema, strict: true } };
  const fitted = await responses.parse({ ...ask, text });
  check("responses structured", fitted.output_parsed?.n === 0, fitted);
  const streamed = await responses.stream({ ...ask, text }).finalResponse();
  check("responses structured, streaming", streamed.output_text === '{"n":0}', streamed);
  const refused = await responses.create(ask, fault("refusal"));
  check("responses refusal", refused.incomplete_details?.reason === "content_filter", refused);
  await judgeOpenAIErrors("responses", responses, ask);
}

async function judgeThoughts(responses, ask) {
  const include = ["reasoning.encrypted_content"];
  const thinks = { ...ask, reasoning: { effort: "low" }, store: false, include };
  const whole = await responses.create(thinks);
  check("responses thinking", whole.output.map((item) => item.type).join() === "reasoning,message", whole);
  check("responses thinking is sealed", Boolean(whole.output[0].encrypted_content), whole.output[0]);
  const final = await responses.stream(thinks).finalResponse();
  const told = ({ output }) => JSON.stringify([output[0].summary, output[0].encrypted_content, output[1].content[0].text]);
  check("responses thinking, streaming", told(final) === told(whole), final.output);
  const input = [...ASK, ...whole.output, { role: "user", content: "Go on." }];
  const next = await responses.create({ ...thinks, input });
  check("responses thinking is taken back", next.status === "completed", next);
}

async function judgeResponsesTools(responses, files, streaming) {
  const tools = Object.entries(TOOLS).map(([name, parameters]) => ({ type: "function", name, parameters, strict: false }));
  const input = [{ role: "user", content: TASK }];
  for (let turn = 0; turn < 10; turn += 1) {
    const ask = { model: "sim", input, tools, store: false };
    const reply = streaming ? await responses.stream(ask).finalResponse() : await responses.create(ask);
    const calls = reply.output.filter((item) => item.type === "function_call");
    if (!calls.length) return;
    input.push(...reply.output);
    for (const { call_id, name, arguments: args } of calls) {
      input.push({ type: "function_call_output", call_id, output: execute(files, name, JSON.parse(args)) });
    }
  }
}

async function judgeOpenAIErrors(dialect, completions, ask) {
  const rows = {
    invalid: [OpenAI.BadRequestError, null],
    "context-length": [OpenAI.BadRequestError, "context_length_exceeded"],
    authentication: [OpenAI.AuthenticationError, "invalid_api_key"],
    permission: [OpenAI.PermissionDeniedError, "unsupported_country_region_territory"],
    "not-found": [OpenAI.NotFoundError, "model_not_found"],
    conflict: [OpenAI.ConflictError, null],
    unprocessable: [OpenAI.UnprocessableEntityError, null],
    "rate-limit": [OpenAI.RateLimitError, "rate_limit_exceeded"],
    "slow-down": [OpenAI.RateLimitError, "slow_down"],
    "credit-exhausted": [OpenAI.RateLimitError, "credit_balance_exhausted"],
    server: [OpenAI.InternalServerError, null],
    overloaded: [OpenAI.InternalServerError, "server_is_overloaded"],
  };
  for (const [name, [error, code]] of Object.entries(rows)) {
    const caught = await raises(`${dialect} ${name}`, error, () => completions.create(ask, fault(name)));
    check(`${dialect} ${name} code`, (caught?.code ?? null) === code, caught);
  }
  await raises(`${dialect} cut`, OpenAI.APIConnectionError, () => completions.create(ask, fault("cut-before-body")));
  for (const name of ["in-stream:overloaded", "in-stream-late:server"]) {
    await raises(`${dialect} ${name}`, OpenAI.APIError, async () => {
      for await (const _ of await completions.create({ ...ask, stream: true }, fault(name)));
    });
  }
}

const address = process.argv[2];
await judgeAnthropic(address);
await judgeOpenAI(address);
await judgeResponses(address);
console.log(`anthropic ${ANTHROPIC}, openai ${OPENAI}: ${checks} checks, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
