// Judges the gateway by the AI SDK of Vercel, as `judge_anthropic.js` does by an SDK of a provider. Usage: node judge_ai_sdk.js
// SIM GATEWAY KEY NARROW-KEY.

import { readFileSync } from "node:fs";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, Output, generateText, isStepCount, streamText, tool } from "ai";
import * as z from "zod";
import { Judgement, plain, runTool } from "./sides.js";

globalThis.AI_SDK_LOG_WARNINGS = false;

const ASK = "How many roads must a man walk down?";
const MERGE = "Merge a.md, b.md and c.md into all.md";
const ABC = { "a.md": "A\n", "b.md": "B\n", "c.md": "C\n" };
const MERGED = "A\n\nB\n\nC\n";
const WALK = z.object({ roads: z.number().int(), name: z.string() });
const PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

// For each dialect its model, and the names of models that lead to a provider of the same dialect and to ones of others.
const DIALECTS = {
  messages: [(side, name) => createAnthropic({ baseURL: `${side.baseURL}/v1`, apiKey: side.key })(side.model(name)), "messages", "chat", "down-across"],
  chat: [(side, name) => createOpenAI({ baseURL: `${side.baseURL}/v1`, apiKey: side.key }).chat(side.model(name)), "chat", "messages", "down-chat-across"],
  responses: [(side, name) => createOpenAI({ baseURL: `${side.baseURL}/v1`, apiKey: side.key })(side.model(name)), "responses", "messages", "chat"],
};

// A provider of another dialect keeps nothing that could be referred to.
const ALWAYS = { maxRetries: 0, maxOutputTokens: 500, providerOptions: { openai: { store: false } } };

const told = ({ text, finishReason, usage }) => plain({ text, finishReason, usage: [usage.inputTokens, usage.outputTokens] });

async function streamed(asked) {
  const failures = [];
  const result = streamText({ ...ALWAYS, ...asked, onError: ({ error }) => failures.push(error) });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  if (failures.length > 0) throw failures[0];
  return { text, finishReason: await result.finishReason, usage: await result.usage, steps: await result.steps };
}

const generated = (asked) => generateText({ ...ALWAYS, ...asked });

async function worked(model, ask) {
  const files = { ...ABC };
  const tools = {
    read_file: tool({ description: "Read", inputSchema: z.object({ path: z.string() }), execute: (args) => runTool(files, "read_file", args) }),
    write_file: tool({
      description: "Write",
      inputSchema: z.object({ path: z.string(), content: z.string() }),
      execute: (args) => runTool(files, "write_file", args),
    }),
  };
  const { steps } = await ask({ model, tools, stopWhen: isStepCount(10), prompt: MERGE });
  const calls = steps.flatMap(({ toolCalls }) => toolCalls.map(({ toolName, input }) => [toolName, input]));
  return { calls: plain(calls), text: steps.at(-1).text, merged: files["all.md"] };
}

async function answers(judge, dialect) {
  const [model, same, ...others] = DIALECTS[dialect];
  const picture = [{ role: "user", content: [{ type: "text", text: "What?" }, { type: "file", mediaType: "image/png", data: PICTURE }] }];
  for (const [how, ask] of [["whole", generated], ["streamed", streamed]]) {
    const name = `${dialect}, ${how}`;
    await judge.same(name, async (side) => told(await ask({ model: model(side, same), prompt: ASK })));
    await judge.same(`${name}, system`, async (side) => told(await ask({ model: model(side, same), instructions: "Be brief.", prompt: ASK })));
    await judge.same(`${name}, picture`, async (side) => told(await ask({ model: model(side, same), messages: picture })));
    await judge.same(`${name}, tools`, (side) => worked(model(side, same), ask));
    for (const other of others) {
      await judge.onlyGateway(`${name}, tools with ${other}`, (side) => worked(model(side, other), ask), ({ merged }) => merged === MERGED);
    }
    for (const fault of ["context-length", "authentication", "rate-limit:ms=5", "overloaded"]) {
      const headers = { "x-sim-fault": fault };
      await judge.raises(`${name}, ${fault}`, APICallError, (side) => ask({ model: model(side, same), prompt: ASK, headers }), ["message"]);
    }
  }
  const output = Output.object({ schema: WALK });
  await judge.same(`${dialect}, structured`, async (side) => (await generated({ model: model(side, same), prompt: ASK, output })).output);
}

const judge = new Judgement(process.argv.slice(2));
for (const dialect of Object.keys(DIALECTS)) await answers(judge, dialect);
const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
const versions = ["ai", "@ai-sdk/anthropic", "@ai-sdk/openai"].map((name) => `${name} ${dependencies[name]}`);
judge.tell(versions.join(", "));
