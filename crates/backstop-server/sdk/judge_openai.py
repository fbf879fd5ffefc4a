"""Judges the gateway by OpenAI's Python SDK, as `judge_anthropic.py` does by Anthropic's. Usage: judge_openai.py SIM GATEWAY KEY NARROW-KEY."""

import asyncio
import functools
import json
import re
import sys
import time

import openai
import pydantic

from sides import SECONDS_MAX, Files, Judgement, Raised, plain, tried

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ASK = {"max_tokens": 500, "messages": [{"role": "user", "content": "How many roads must a man walk down?"}]}
COUNT = "Count the words in notes.md and write the number to count.txt"
MERGE = "Merge a.md, b.md and c.md into all.md"
TEXT = {"type": "string"}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": {**schema, "type": "object"}}}
    for name, schema in {
        "read_file": {"properties": {"path": TEXT}, "required": ["path"]},
        "write_file": {"properties": {"path": TEXT, "content": TEXT}, "required": ["path", "content"]},
    }.items()
]
STRICT = [
    {"type": "function", "function": {**tool["function"], "strict": True, "parameters": {**tool["function"]["parameters"], "additionalProperties": False}}}
    for tool in TOOLS
]
HEADERS = ("content-type", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens")


class Walk(pydantic.BaseModel):
    roads: int
    name: str


@functools.cache
def client(side, api_key=None, max_retries=0):
    """It is kept: to make one takes longer than to ask it."""
    return openai.OpenAI(base_url=f"{side.base_url}/v1", api_key=api_key or side.key, max_retries=max_retries, timeout=SECONDS_MAX)


def client_async(side):
    return openai.AsyncOpenAI(base_url=f"{side.base_url}/v1", api_key=side.key, max_retries=0, timeout=SECONDS_MAX)


def ask(side, name="chat", **more):
    return {"model": side.model(name), **ASK, **more}


def fault(name):
    return {"extra_headers": {"x-sim-fault": name}}


def said(content):
    return [{"role": "user", "content": content}]


def create(side, **asked):
    return client(side).chat.completions.create(**asked)


def streamed(side, asked, **options):
    with client(side).chat.completions.stream(**asked, **options) as stream:
        events = [plain(event) for event in stream]
        return {"events": events, "final": stream.get_final_completion()}


def essence(completion):
    """What is the same in either dialect: not the ids."""
    completion = plain(completion)
    choice, usage = completion["choices"][0], completion["usage"]
    calls = [call["function"] for call in choice["message"].get("tool_calls") or []]
    return {
        "content": choice["message"]["content"],
        "calls": [[call["name"], json.loads(call["arguments"])] for call in calls],
        "finish": choice["finish_reason"],
        "usage": [usage["prompt_tokens"], usage["completion_tokens"]],
    }


def worked(side, name, task, files, streaming=False, tools=TOOLS):
    """The whole conversation of a task with tools."""
    messages, replies = said(task), []
    for _ in range(10):
        asked = ask(side, name, messages=messages, tools=tools)
        reply = streamed(side, asked)["final"] if streaming else create(side, **asked)
        replies.append(plain(reply))
        message = reply.choices[0].message
        if not message.tool_calls:
            break
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
            for call in message.tool_calls
        ]
        messages = [*messages, {"role": "assistant", "content": message.content, "tool_calls": calls}]
        for call in message.tool_calls:
            result = files.run(call.function.name, json.loads(call.function.arguments))
            messages = [*messages, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return replies


def answers(judge):
    for name, more in {
        "whole": {},
        "system, developer, whole conversation, stop": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                *said("One?"),
                {"role": "assistant", "content": "Two."},
                {"role": "developer", "content": [{"type": "text", "text": "Be briefer."}]},
                *said("Three\u2028four \U0001f6a6?"),
            ],
            "stop": ["simulated"],
            "temperature": 0.3,
            "seed": 12345678901234567890,
            "user": "u",
        },
        "reasoning": {"reasoning_effort": "high"},
        "picture": {
            "messages": said([{"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}, {"type": "text", "text": "What is this?"}])
        },
        "a large picture": {
            "messages": said([{"type": "image_url", "image_url": {"url": PICTURE + "A" * 2_000_000}}, {"type": "text", "text": "And this?"}])
        },
        "JSON": {"response_format": {"type": "json_object"}},
        "a tool that must be called": {"tools": STRICT, "tool_choice": {"type": "function", "function": {"name": "read_file"}}},
    }.items():
        judge.same(f"{name}, whole", lambda side: create(side, **ask(side, **more)))
        judge.same(f"{name}, streamed", lambda side: streamed(side, ask(side, **more)))
    for name, more, error in (
        ("cut short", {"max_tokens": openai.omit, "max_completion_tokens": 3}, openai.LengthFinishReasonError),
        ("refusal", fault("refusal"), openai.ContentFilterFinishReasonError),
    ):
        judge.same(f"{name}, whole", lambda side: create(side, **ask(side, **more)))
        judge.same(f"{name}, streamed", lambda side: list(create(side, **ask(side, **more, stream=True))))
        judge.raises(f"{name}, parsed", error, lambda side: parsed(side, "chat", **more), only=("class",))
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = judge.same("chunks with usage", lambda side: list(create(side, **ask(side, **with_usage))))
    judge.check("one usage", isinstance(chunks, list) and sum(chunk["usage"] is not None for chunk in chunks) == 1, chunks)
    chunks = judge.same("chunks without usage", lambda side: list(create(side, **ask(side, stream=True))))
    judge.check("no usage that was not asked for", isinstance(chunks, list) and not any(chunk["usage"] for chunk in chunks), chunks)
    judge.same("whole, async", lambda side: asyncio.run(once(side, False)))
    judge.same("streamed, async", lambda side: asyncio.run(once(side, True)))
    judge.same("many at once", lambda side: asyncio.run(many(side)))
    bytes_and_headers(judge, with_usage)


async def once(side, streaming):
    async with client_async(side) as asking:
        if not streaming:
            return await asking.chat.completions.create(**ask(side))
        async with asking.chat.completions.stream(**ask(side)) as stream:
            events = [plain(event) async for event in stream]
            return {"events": events, "final": await stream.get_final_completion()}


async def many(side):
    async with client_async(side) as asking:
        asks = [asking.chat.completions.create(**ask(side, messages=said(f"Road {n}?"))) for n in range(20)]
        return [plain(reply) for reply in await asyncio.gather(*asks)]


def bytes_and_headers(judge, with_usage):
    # The moment is in every answer and every chunk.
    still = lambda text: re.sub(r'"created":\d+', '"created":0', text)

    def raw(side):
        got = client(side).chat.completions.with_raw_response.create(**ask(side))
        return still(got.text), {name: got.headers.get(name) for name in HEADERS}

    def raw_stream(side):
        with client(side).chat.completions.with_streaming_response.create(**ask(side, **with_usage)) as got:
            return still(b"".join(got.iter_bytes()).decode()), {name: got.headers.get(name) for name in HEADERS}

    judge.same("bytes and headers, whole", raw)
    judge.same("bytes and headers, streamed", raw_stream)
    same_body = judge.arrived(["direct", "chat"])
    judge.check("the request arrives as it was sent", same_body[0] == same_body[1].replace('"chat",', '"sim",', 1), same_body)
    reply = create(judge.gateway, **ask(judge.gateway))
    judge.check("the request id is the provider's", reply._request_id.startswith("req_sim"), reply._request_id)


def tools(judge):
    for streaming in (False, True):
        for task, files in ((COUNT, {"notes_md": "one two three"}), (MERGE, {"a_md": "A\n", "b_md": "B\n", "c_md": "C\n"})):
            name = f"{task.split()[0].lower()} with tools, streaming {streaming}"
            both = {side: Files(**files) for side in ("direct", "gateway")}
            offered = STRICT if task == MERGE else TOOLS
            replies = judge.same(name, lambda side: worked(side, "chat", task, both[side.name], streaming, offered))
            judge.check(f"{name}, files", both["direct"].files == both["gateway"].files and len(both["gateway"].files) > len(files), both)
            if task == MERGE and isinstance(replies, list):
                most = max(len(reply["choices"][0]["message"].get("tool_calls") or []) for reply in replies)
                judge.check(f"{name}, in parallel", most == 3, most)
    judge.same("parse", lambda side: parsed(side, "chat"))
    judge.same("parse, streamed", lambda side: streamed(side, ask(side), response_format=Walk)["final"])


def parsed(side, name, **more):
    return client(side).chat.completions.parse(**ask(side, name, **more), response_format=Walk).choices[0].message.parsed


def errors(judge):
    for name, error in {
        "invalid": openai.BadRequestError,
        "context-length": openai.BadRequestError,
        "policy": openai.BadRequestError,
        "authentication": openai.AuthenticationError,
        "permission": openai.PermissionDeniedError,
        "not-found": openai.NotFoundError,
        "conflict": openai.ConflictError,
        "unprocessable": openai.UnprocessableEntityError,
        "rate-limit:ms=5": openai.RateLimitError,
        "slow-down:ms=5": openai.RateLimitError,
        "credit-exhausted": openai.RateLimitError,
        "project-spend-limit": openai.RateLimitError,
        "server": openai.InternalServerError,
        "timeout": openai.InternalServerError,
        "overloaded": openai.InternalServerError,
        "too-large": openai.APIStatusError,
    }.items():
        # What was tried again is told in the gateway's own words, which have one type for each kind.
        only = ("class", "status", "code", "message")
        judge.raises(name, error, lambda side: create(side, **ask(side), **fault(name)), only)
        judge.raises(f"{name}, streamed", error, lambda side: streamed(side, ask(side), **fault(name)), only)
    late = fault("in-stream-late:overloaded")
    judge.raises("in the stream", openai.APIError, lambda side: streamed(side, ask(side), **late), only=("class", "type", "code", "message"))
    long = {"max_tokens": 10, "messages": said("word " * 9000)}
    judge.raises("too long", openai.BadRequestError, lambda side: create(side, **ask(side, "chat-small", **long)))
    judge.raises("no such model", openai.NotFoundError, lambda side: create(side, **ask(side, "chat-nothing")))
    judge.raises("a wrong request", openai.BadRequestError, lambda side: create(side, **ask(side, messages=[])))
    judge.raises(
        "a wrong key",
        openai.AuthenticationError,
        lambda side: client(side, "wrong" if side.is_direct else None).chat.completions.create(**ask(side, "stranger-chat")),
        only=("class", "status", "type", "code"),
    )


def keys(judge):
    """A key that does not open is told by the class that its client knows, with what is wrong about it."""
    for name, key, error in (
        ("no key", "none", openai.AuthenticationError),
        ("a key for other models", judge.narrow_key, openai.PermissionDeniedError),
    ):
        seen = tried(lambda side: client(side, key).chat.completions.create(**ask(side)), judge.gateway)
        told = isinstance(seen, Raised) and seen.error is error and "key" in seen.told["message"]
        judge.check(name, told, seen)


def failover(judge):
    """What only a gateway can do."""
    whole = essence(create(judge.direct, **ask(judge.direct)))
    for name in ("messages", "down-chat", "down-chat-across"):
        judge.only_gateway(f"whole with {name}", lambda side: essence(create(side, **ask(side, name))), lambda seen: seen == whole)
        usage = {"stream_options": {"include_usage": True}}
        judge.only_gateway(f"streamed with {name}", lambda side: essence(streamed(side, ask(side, name, **usage))["final"]), lambda seen: seen == whole)
        for streaming in (False, True):
            files = Files(a_md="A\n", b_md="B\n", c_md="C\n")
            done = lambda _: files.files.get("all.md") == "A\n\nB\n\nC\n"
            judge.only_gateway(f"tools with {name}, streaming {streaming}", lambda side: worked(side, name, MERGE, files, streaming), done)
        judge.only_gateway(f"parse with {name}", lambda side: parsed(side, name), lambda seen: set(seen) == {"roads", "name"})
        sampled = {"temperature": 0.5, "top_p": 0.9, "stop": "simulated"}
        judge.only_gateway(f"sampling with {name}", lambda side: essence(create(side, **ask(side, name, **sampled))), lambda seen: seen["finish"] == "stop")
    for streaming in (False, True):
        judge.reset()
        usage = {"stream_options": {"include_usage": True}}
        asked = lambda side: streamed(side, ask(side, "twice-chat", **usage))["final"] if streaming else create(side, **ask(side, "twice-chat"))
        judge.only_gateway(f"two rate limits, streaming {streaming}", lambda side: essence(asked(side)), lambda seen: seen == whole)
    waited(judge)
    for name in ("cut-at:900", "end-early", "malformed-stream:5"):
        seen = judge.only_gateway(f"a stream that is cut ({name})", lambda side: cut(side, name))
        judge.check(f"a stream that is cut ({name}) raises", isinstance(seen, dict) and isinstance(seen.get("raised"), str), seen)
    judge.only_gateway("models", lambda side: [model.id for model in client(side).models.list()], lambda seen: {"messages", "down", "chat"} <= set(seen))
    judge.only_gateway("a model", lambda side: client(side).models.retrieve("chat").id, lambda seen: seen == "chat")


def waited(judge):
    """A call that is out of attempts says how long to wait, and a client that may retry does so then."""
    judge.reset()
    try:
        create(judge.gateway, **ask(judge.gateway, "thrice-chat"))
        judge.check("three rate limits", False, "nothing was raised")
    except openai.RateLimitError as error:
        told = {name: error.response.headers.get(name) for name in ("retry-after", "retry-after-ms", "x-should-retry")}
        judge.check("three rate limits", told == {"retry-after": "1", "retry-after-ms": "700", "x-should-retry": "true"}, told)
    judge.reset()
    begun = time.monotonic()
    reply = client(judge.gateway, None, 1).chat.completions.create(**ask(judge.gateway, "thrice-chat"))
    spent = time.monotonic() - begun
    # Twice the gateway, and once the client.
    judge.check("the client waits as long as it is told, and is answered", reply.choices[0].finish_reason == "stop" and spent >= 2.1, spent)


def cut(side, name):
    try:
        return streamed(side, ask(side, max_tokens=2000), **fault(name))
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def main():
    judge = Judgement(sys.argv[1:])
    for cases in (answers, tools, errors, keys, failover):
        cases(judge)
    sys.exit(0 if judge.tell(f"openai {openai.__version__} (Python)") else 1)


if __name__ == "__main__":
    main()
