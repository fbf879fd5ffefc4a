"""Judges the gateway by what agents are built with in Python, LangChain and Pydantic AI, as `judge_anthropic.py` does by an SDK.
Usage: judge_frameworks.py SIM GATEWAY KEY NARROW-KEY."""

import asyncio
import importlib.metadata
import os
import sys

# Nothing is told to anybody else, whatever the machine is set up for.
os.environ["LANGSMITH_TRACING"] = "false"

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from sides import SECONDS_MAX, Files, Judgement

ASK = "How many roads must a man walk down?"
COUNT = "Count the words in notes.md and write the number to count.txt"
WORKED = {"notes.md": "one two three", "count.txt": "3\n"}
# A name of a model that goes to a provider of the same dialect, and to ones of others.
WAYS = {"messages": ["messages", "chat", "down-across"], "chat": ["chat", "messages", "down-chat-across"], "responses": ["responses", "messages", "chat"]}


# One for everything: LangChain keeps a client across all models, and a client belongs to one loop.
LOOP = asyncio.new_event_loop()


class Walk(BaseModel):
    roads: int
    name: str


def functions(files):
    def read_file(path: str) -> str:
        """Read a file"""
        return files.run("read_file", {"path": path})

    def write_file(path: str, content: str) -> str:
        """Write a file"""
        return files.run("write_file", {"path": path, "content": content})

    return [read_file, write_file]


def chain(side, dialect, name):
    options = {"model": side.model(name), "api_key": side.key, "max_retries": 0, "timeout": SECONDS_MAX}
    if dialect == "messages":
        return ChatAnthropic(base_url=side.base_url, **options)
    return ChatOpenAI(base_url=f"{side.base_url}/v1", use_responses_api=dialect == "responses", stream_usage=True, **options)


def message(reply):
    """A message without what is of the moment."""
    calls = [[call["name"], call["args"]] for call in reply.tool_calls]
    usage = reply.usage_metadata
    return {"text": reply.text, "calls": calls, "usage": [usage["input_tokens"], usage["output_tokens"]]}


def streamed(model, messages):
    whole = None
    for chunk in model.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def langchain_tools(model, streaming):
    files = Files(notes_md="one two three")
    tools = {function.__name__: StructuredTool.from_function(function) for function in functions(files)}
    bound = model.bind_tools(list(tools.values()))
    messages, seen = [HumanMessage(COUNT)], []
    for _ in range(10):
        reply = streamed(bound, messages) if streaming else bound.invoke(messages)
        seen.append(message(reply))
        if not reply.tool_calls:
            break
        results = [ToolMessage(tools[call["name"]].invoke(call["args"]), tool_call_id=call["id"]) for call in reply.tool_calls]
        messages = [*messages, reply, *results]
    return [seen, files.files]


def langchain(judge):
    for dialect, (same, *others) in WAYS.items():
        cases = {
            "whole": lambda model: message(model.invoke(ASK)),
            "streamed": lambda model: message(streamed(model, ASK)),
            "async": lambda model: LOOP.run_until_complete(model.ainvoke(ASK)).text,
            "tools": lambda model: langchain_tools(model, False),
            "tools, streamed": lambda model: langchain_tools(model, True),
            "structured": lambda model: model.with_structured_output(Walk, method="json_schema").invoke(ASK),
        }
        for what, case in cases.items():
            judge.same(f"LangChain, {dialect}, {what}", lambda side: case(chain(side, dialect, same)))
        for name in others:
            for streaming in (False, True):
                what = f"LangChain, {dialect}, tools with {name}, streaming {streaming}"
                judge.only_gateway(what, lambda side: langchain_tools(chain(side, dialect, name), streaming), lambda seen: seen[1] == WORKED)


def agent_model(side, dialect, name):
    if dialect == "messages":
        return AnthropicModel(side.model(name), provider=AnthropicProvider(base_url=side.base_url, api_key=side.key))
    model = OpenAIChatModel if dialect == "chat" else OpenAIResponsesModel
    return model(side.model(name), provider=OpenAIProvider(base_url=f"{side.base_url}/v1", api_key=side.key))


async def agent_run(model, prompt, streaming, tools=(), output_type=str):
    agent = Agent(model, tools=list(tools), output_type=output_type)
    if not streaming:
        done = await agent.run(prompt)
        return [done.output, done.usage.input_tokens, done.usage.output_tokens]
    # Each step of the agent, as it comes.
    async with agent.iter(prompt) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for _ in events:
                        pass
    return [run.result.output, run.usage.input_tokens, run.usage.output_tokens]


def agent_tools(model, streaming):
    files = Files(notes_md="one two three")
    done = LOOP.run_until_complete(agent_run(model, COUNT, streaming, functions(files)))
    return [done, files.files]


def pydantic_ai(judge):
    for dialect, (same, *others) in WAYS.items():
        for streaming in (False, True):
            name = f"Pydantic AI, {dialect}, streaming {streaming}"
            judge.same(name, lambda side: LOOP.run_until_complete(agent_run(agent_model(side, dialect, same), ASK, streaming)))
            judge.same(f"{name}, tools", lambda side: agent_tools(agent_model(side, dialect, same), streaming))
            for other in others:
                judge.only_gateway(f"{name}, tools with {other}", lambda side: agent_tools(agent_model(side, dialect, other), streaming), lambda seen: seen[1] == WORKED)
        judge.same(f"Pydantic AI, {dialect}, structured", lambda side: LOOP.run_until_complete(agent_run(agent_model(side, dialect, same), ASK, False, output_type=Walk)))


def main():
    version = importlib.metadata.version
    told = []
    for cases, client in (
        (langchain, f"langchain-anthropic {version('langchain-anthropic')}, langchain-openai {version('langchain-openai')}"),
        (pydantic_ai, f"pydantic-ai {version('pydantic-ai-slim')}"),
    ):
        judge = Judgement(sys.argv[1:])
        cases(judge)
        told.append(judge.tell(client))
    sys.exit(0 if all(told) else 1)


main()
