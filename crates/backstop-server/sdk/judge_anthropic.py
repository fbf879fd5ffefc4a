"""Judges the gateway by Anthropic's Python SDK: every case is asked at the simulated provider itself and through the gateway,
and both must give the same. Usage: judge_anthropic.py SIM GATEWAY KEY NARROW-KEY. Traffic goes to loopback only."""

import asyncio
import functools
import sys
import time

import anthropic
import pydantic

from sides import SECONDS_MAX, Files, Judgement, Raised, plain, tried

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjcK"
ASK = {"max_tokens": 500, "messages": [{"role": "user", "content": "How many roads must a man walk down?"}]}
COUNT = "Count the words in notes.md and write the number to count.txt"
MERGE = "Merge a.md, b.md and c.md into all.md"
TOOLS = [
    {
        "name": "read_file",
        "description": "Read a file",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
    {
        "name": "write_file",
        "description": "Write a file",
        "input_schema": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
            "required": ["path", "content"],
        },
    },
]
HEADERS = ("content-type", "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-remaining")


class Walk(pydantic.BaseModel):
    roads: int
    name: str


@functools.cache
def client(side, api_key=None, max_retries=0):
    """It is kept: to make one takes longer than to ask it."""
    return anthropic.Anthropic(base_url=side.base_url, api_key=api_key or side.key, max_retries=max_retries, timeout=SECONDS_MAX)


def client_async(side):
    return anthropic.AsyncAnthropic(base_url=side.base_url, api_key=side.key, max_retries=0, timeout=SECONDS_MAX)


def ask(side, name="messages", **more):
    return {"model": side.model(name), **ASK, **more}


def fault(name):
    return {"extra_headers": {"x-sim-fault": name}}


def said(content):
    return [{"role": "user", "content": content}]


def streamed(side, asked, **options):
    with client(side).messages.stream(**asked, **options) as stream:
        events = [plain(event) for event in stream]
        return {"events": events, "final": stream.get_final_message()}


def essence(message):
    """What is the same in either dialect: not the ids."""
    message = plain(message)
    keep = lambda block: {key: block[key] for key in ("type", "text", "name", "input") if block.get(key) is not None}
    usage = {key: message["usage"][key] for key in ("input_tokens", "output_tokens")}
    return {"content": [keep(b) for b in message["content"]], "stop": message["stop_reason"], "usage": usage}


def worked(side, name, task, files, streaming=False):
    """The whole conversation of a task with tools."""
    messages, replies = said(task), []
    for _ in range(10):
        asked = ask(side, name, messages=messages, tools=TOOLS)
        reply = streamed(side, asked)["final"] if streaming else client(side).messages.create(**asked)
        replies.append(reply)
        if reply.stop_reason != "tool_use":
            break
        messages = [*messages, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in reply.content]}]
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": files.run(block.name, block.input)}
            for block in reply.content
            if block.type == "tool_use"
        ]
        messages = [*messages, {"role": "user", "content": results}]
    return replies


def answers(judge):
    for name, more in {
        "whole": {},
        "system, whole conversation, stop sequence": {
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [*said("One?"), {"role": "assistant", "content": "Two."}, *said("Three\u2028four \U0001f6a6?")],
            "stop_sequences": ["simulated"],
            "metadata": {"user_id": '{"a":1}'},
        },
        "cut at max_tokens": {"max_tokens": 3},
        "thinking": {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "picture and document": {
            "messages": said(
                [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                        "title": "t",
                        "citations": {"enabled": True},
                    },
                    {"type": "text", "text": "What is this?"},
                ]
            )
        },
        "a large picture and a document": {
            "messages": said(
                [
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": PICTURE + "A" * 2_000_000,
                        },
                    },
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF + "A" * 400_000},
                    },
                    {"type": "text", "text": "And these?"},
                ]
            )
        },
        "a tool that must be called": {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "read_file"}},
        "refusal": fault("refusal"),
        "paused turn": fault("pause"),
    }.items():
        judge.same(f"{name}, whole", lambda side: client(side).messages.create(**ask(side, **more)))
        judge.same(f"{name}, streamed", lambda side: streamed(side, ask(side, **more)))
    judge.same("events", lambda side: list(client(side).messages.create(**ask(side), stream=True)))
    judge.same("count", lambda side: client(side).messages.count_tokens(model=side.model("messages"), messages=said("a b c")))
    judge.same("whole, async", lambda side: asyncio.run(once(side, False)))
    judge.same("streamed, async", lambda side: asyncio.run(once(side, True)))
    judge.same("many at once", lambda side: asyncio.run(many(side)))
    bytes_and_headers(judge)


async def once(side, streaming):
    async with client_async(side) as asking:
        if not streaming:
            return await asking.messages.create(**ask(side))
        async with asking.messages.stream(**ask(side)) as stream:
            events = [plain(event) async for event in stream]
            return {"events": events, "final": await stream.get_final_message()}


async def many(side):
    async with client_async(side) as asking:
        asks = [asking.messages.create(**ask(side, messages=said(f"Road {n}?"))) for n in range(20)]
        return [plain(reply) for reply in await asyncio.gather(*asks)]


def bytes_and_headers(judge):
    def raw(side):
        got = client(side).messages.with_raw_response.create(**ask(side))
        return got.text(), {name: got.headers.get(name) for name in HEADERS}

    def raw_stream(side):
        with client(side).messages.with_streaming_response.create(**ask(side), stream=True) as got:
            return b"".join(got.iter_bytes()).decode(), {name: got.headers.get(name) for name in HEADERS}

    judge.same("bytes and headers, whole", raw)
    judge.same("bytes and headers, streamed", raw_stream)
    same_body = judge.arrived(["direct", "messages"])
    judge.check("the request arrives as it was sent", same_body[0] == same_body[1].replace('"messages",', '"sim",', 1), same_body)
    reply = client(judge.gateway).messages.create(**ask(judge.gateway))
    judge.check("the request id is the provider's", reply._request_id.startswith("req_sim"), reply._request_id)


def tools(judge):
    for streaming in (False, True):
        for task, files in ((COUNT, {"notes_md": "one two three"}), (MERGE, {"a_md": "A\n", "b_md": "B\n", "c_md": "C\n"})):
            name = f"{task.split()[0].lower()} with tools, streaming {streaming}"
            both = {side: Files(**files) for side in ("direct", "gateway")}
            replies = judge.same(name, lambda side: worked(side, "messages", task, both[side.name], streaming))
            judge.check(f"{name}, files", both["direct"].files == both["gateway"].files and len(both["gateway"].files) > len(files), both)
            if task == MERGE and isinstance(replies, list):
                most = max(sum(b["type"] == "tool_use" for b in reply["content"]) for reply in replies)
                judge.check(f"{name}, in parallel", most == 3, most)
    for streaming in (False, True):
        for threads in (None, False):
            judge.same(
                f"tool runner, streaming {streaming}, threads {threads}",
                lambda side: asyncio.run(run_async(side, "messages", streaming, threads)) + run(side, "messages", streaming, threads),
            )
            goes_on = ["previous_message_id" in body for body in judge.arrived(["direct", "messages"])]
            judge.check(f"threads are used, {threads}", goes_on == [threads is None] * 2, goes_on)
    judge.same("parse", lambda side: client(side).messages.parse(**ask(side), output_format=Walk).parsed_output)
    judge.same("parse in beta", lambda side: client(side).beta.messages.parse(**ask(side), output_format=Walk).parsed_output)


def runnable(files):
    def read_file(path: str) -> str:
        """Read a file"""
        return files.run("read_file", {"path": path})

    def write_file(path: str, content: str) -> str:
        """Write a file"""
        return files.run("write_file", {"path": path, "content": content})

    return read_file, write_file


def threads_option(threads):
    return {} if threads is None else {"thread": threads}


def run(side, name, streaming, threads):
    files = Files(notes_md="one two three")
    runner = client(side).beta.messages.tool_runner(
        **ask(side, name, messages=said(COUNT)),
        tools=[anthropic.beta_tool(tool) for tool in runnable(files)],
        stream=streaming,
        **threads_option(threads),
    )
    seen = [plain(item.get_final_message() if streaming else item) for item in runner]
    return [seen, files.files]


async def run_async(side, name, streaming, threads):
    files = Files(notes_md="one two three")

    def asynchronous(tool):
        async def called(**args):
            return tool(**args)

        called.__name__, called.__doc__, called.__annotations__ = tool.__name__, tool.__doc__, tool.__annotations__
        return anthropic.beta_async_tool(called, input_schema=next(t["input_schema"] for t in TOOLS if t["name"] == tool.__name__))

    async with client_async(side) as asking:
        runner = asking.beta.messages.tool_runner(
            **ask(side, name, messages=said(COUNT)),
            tools=[asynchronous(tool) for tool in runnable(files)],
            stream=streaming,
            **threads_option(threads),
        )
        seen = []
        async for item in runner:
            seen.append(plain(await item.get_final_message() if streaming else item))
        return [seen, files.files]


def threads(judge):
    """A conversation that the provider keeps is never lost on the way."""
    done = lambda seen: seen[1].get("count.txt") == "3\n"
    for name in ("plain", "chat", "down", "down-across"):
        for streaming in (False, True):
            judge.only_gateway(f"tool runner with {name}, streaming {streaming}", lambda side: run(side, name, streaming, None), done)

    def lost(side):
        extra = {"thread": {"type": "continue", "previous_message_id": "msg_unknown"}}
        headers = {"anthropic-beta": "message-threads-2026-08-12"}
        return client(side).messages.create(**ask(side), extra_body=extra, extra_headers=headers)

    judge.raises("a thread that nobody knows", anthropic._error_classes.ThreadNotFoundError, lost)


def errors(judge):
    for name, error in {
        "invalid": anthropic.BadRequestError,
        "context-length": anthropic.BadRequestError,
        "own-spend-limit": anthropic.BadRequestError,
        "policy": anthropic.BadRequestError,
        "authentication": anthropic.AuthenticationError,
        "billing": anthropic.PaymentRequiredError,
        "permission": anthropic.PermissionDeniedError,
        "not-found": anthropic.NotFoundError,
        "conflict": anthropic.ConflictError,
        "too-large": anthropic.RequestTooLargeError,
        "unprocessable": anthropic.UnprocessableEntityError,
        "rate-limit:ms=5": anthropic.RateLimitError,
        "enforced-spend-limit": anthropic.EnforcedSpendLimitReachedError,
        "server": anthropic.InternalServerError,
        "timeout": anthropic.DeadlineExceededError,
        "overloaded": anthropic.OverloadedError,
    }.items():
        judge.raises(name, error, lambda side: client(side).messages.create(**ask(side), **fault(name)))
        judge.raises(f"{name}, streamed", error, lambda side: streamed(side, ask(side), **fault(name)))
    judge.raises("in the stream", anthropic.APIStatusError, lambda side: streamed(side, ask(side), **fault("in-stream-late:overloaded")), only=("class", "type"))
    long = {"max_tokens": 10, "messages": said("word " * 9000)}
    judge.raises("too long", anthropic.BadRequestError, lambda side: client(side).messages.create(**ask(side, "messages-small", **long)))
    judge.raises("no such model", anthropic.NotFoundError, lambda side: client(side).messages.create(**ask(side, "messages-nothing")))
    wrong = {"max_tokens": 10, "messages": [], "extra_body": {"temperature": 1}}
    judge.raises("a wrong request", anthropic.BadRequestError, lambda side: client(side).messages.create(**ask(side, **wrong)))
    judge.raises("a parameter that is gone", anthropic.BadRequestError, lambda side: client(side).messages.create(**ask(side), extra_body={"temperature": 1}))
    judge.raises(
        "a wrong key",
        anthropic.AuthenticationError,
        lambda side: client(side, "wrong" if side.is_direct else None).messages.create(**ask(side, "stranger")),
        only=("class", "status", "type"),
    )


def keys(judge):
    """A key that does not open is told by the class that its client knows, with what is wrong about it."""
    for name, key, error in (
        ("no key", "none", anthropic.AuthenticationError),
        ("a key for other models", judge.narrow_key, anthropic.PermissionDeniedError),
    ):
        seen = tried(lambda side: client(side, key).messages.create(**ask(side)), judge.gateway)
        told = isinstance(seen, Raised) and seen.error is error and "key" in seen.told["message"]
        judge.check(name, told, seen)


def failover(judge):
    """What only a gateway can do."""
    whole = essence(client(judge.direct).messages.create(**ask(judge.direct)))
    for name in ("chat", "down", "down-across"):
        judge.only_gateway(f"whole with {name}", lambda side: essence(client(side).messages.create(**ask(side, name))), lambda seen: seen == whole)
        judge.only_gateway(f"streamed with {name}", lambda side: essence(streamed(side, ask(side, name))["final"]), lambda seen: seen == whole)
        for streaming in (False, True):
            files = Files(a_md="A\n", b_md="B\n", c_md="C\n")
            done = lambda _: files.files.get("all.md") == "A\n\nB\n\nC\n"
            judge.only_gateway(f"tools with {name}, streaming {streaming}", lambda side: worked(side, name, MERGE, files, streaming), done)
        judge.only_gateway(f"parse with {name}", lambda side: client(side).messages.parse(**ask(side, name), output_format=Walk).parsed_output, lambda seen: set(seen) == {"roads", "name"})
    for streaming in (False, True):
        judge.reset()
        asked = lambda side: streamed(side, ask(side, "twice"))["final"] if streaming else client(side).messages.create(**ask(side, "twice"))
        judge.only_gateway(f"two rate limits, streaming {streaming}", lambda side: essence(asked(side)), lambda seen: seen == whole)
    waited(judge)
    for name in ("cut-at:900", "end-early", "malformed-stream:5"):
        seen = judge.only_gateway(f"a stream that is cut ({name})", lambda side: cut(side, name), lambda seen: True)
        judge.check(f"a stream that is cut ({name}) raises", isinstance(seen, dict) and isinstance(seen.get("raised"), str), seen)
    judge.only_gateway("models", lambda side: [model.id for model in client(side).models.list()], lambda seen: {"messages", "down", "chat"} <= set(seen))
    judge.only_gateway("a model", lambda side: client(side).models.retrieve("messages").id, lambda seen: seen == "messages")


def waited(judge):
    """A call that is out of attempts says how long to wait, and a client that may retry does so then."""
    judge.reset()
    try:
        client(judge.gateway).messages.create(**ask(judge.gateway, "thrice"))
        judge.check("three rate limits", False, "nothing was raised")
    except anthropic.RateLimitError as error:
        told = {name: error.response.headers.get(name) for name in ("retry-after", "retry-after-ms", "x-should-retry")}
        judge.check("three rate limits", told == {"retry-after": "1", "retry-after-ms": "700", "x-should-retry": "true"}, told)
    judge.reset()
    begun = time.monotonic()
    reply = client(judge.gateway, None, 1).messages.create(**ask(judge.gateway, "thrice"))
    spent = time.monotonic() - begun
    # Twice the gateway, and once the client.
    judge.check("the client waits as long as it is told, and is answered", reply.stop_reason == "end_turn" and spent >= 2.1, spent)


def cut(side, name):
    try:
        return streamed(side, ask(side, max_tokens=2000), **fault(name))
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def main():
    judge = Judgement(sys.argv[1:])
    for cases in (answers, tools, threads, errors, keys, failover):
        cases(judge)
    sys.exit(0 if judge.tell(f"anthropic {anthropic.__version__} (Python)") else 1)


main()
