"""Judges the gateway by the Responses of OpenAI's Python SDK, as `judge_openai.py` does by its Chat Completions. Usage:
judge_responses.py SIM GATEWAY KEY NARROW-KEY."""

import asyncio
import json
import re
import sys

import openai

from judge_openai import COUNT, HEADERS, MERGE, PICTURE, TEXT, Walk, client, client_async, fault
from sides import Files, Judgement, plain

ASK = {"max_output_tokens": 500, "input": "How many roads must a man walk down?"}
PDF = "data:application/pdf;base64,JVBERi0xLjcK"
TOOLS = [
    {"type": "function", "name": name, "description": name, "strict": False, "parameters": {**schema, "type": "object"}}
    for name, schema in {
        "read_file": {"properties": {"path": TEXT}, "required": ["path"]},
        "write_file": {"properties": {"path": TEXT, "content": TEXT}, "required": ["path", "content"]},
    }.items()
]
SEALED = {"reasoning": {"effort": "low"}, "store": False, "include": ["reasoning.encrypted_content"]}


def ask(side, name="responses", **more):
    return {"model": side.model(name), **ASK, **more}


def create(side, **asked):
    return client(side).responses.create(**asked)


def streamed(side, asked, **options):
    with client(side).responses.stream(**asked, **options) as stream:
        events = [plain(event) for event in stream]
        return {"events": events, "final": stream.get_final_response()}


def essence(response):
    """What is the same in any dialect: not the ids."""
    response = plain(response)
    texts = [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]
    calls = [[item["name"], json.loads(item["arguments"])] for item in response["output"] if item["type"] == "function_call"]
    usage = response["usage"]
    return {"texts": texts, "calls": calls, "status": response["status"], "usage": [usage["input_tokens"], usage["output_tokens"]]}


def worked(side, name, task, files, streaming=False, **more):
    """The whole conversation of a task with tools, sent whole each time."""
    items, replies = [{"role": "user", "content": task}], []
    for _ in range(10):
        asked = ask(side, name, input=items, tools=TOOLS, store=False, **more)
        reply = streamed(side, asked)["final"] if streaming else create(side, **asked)
        replies.append(plain(reply))
        calls = [item for item in reply.output if item.type == "function_call"]
        if not calls:
            break
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": files.run(call.name, json.loads(call.arguments))}
            for call in calls
        ]
        items = [*items, *(item.to_dict() for item in reply.output), *results]
    return replies


def answers(judge):
    picture = {"type": "input_image", "image_url": PICTURE, "detail": "low"}
    document = {"type": "input_file", "filename": "a.pdf", "file_data": PDF}
    for name, more in {
        "whole": {},
        "instructions, developer, whole conversation": {
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "Be briefer."},
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "Two."},
                {"role": "user", "content": [{"type": "input_text", "text": "Three\u2028four \U0001f6a6?"}]},
            ],
            "temperature": 0.3,
            "metadata": {"a": "b"},
        },
        "thinking": {"reasoning": {"effort": "high"}},
        "sealed thinking": SEALED,
        "picture and document": {
            "input": [{"role": "user", "content": [picture, document, {"type": "input_text", "text": "What is this?"}]}]
        },
        "JSON": {"text": {"format": {"type": "json_object"}}},
        "a tool that must be called": {"tools": TOOLS, "tool_choice": {"type": "function", "name": "read_file"}},
        "cut short": {"max_output_tokens": 16, "input": "How many roads must a man walk down before he is called one? " * 8},
        "refusal": fault("refusal"),
    }.items():
        judge.same(f"{name}, whole", lambda side: create(side, **ask(side, **more)))
        judge.same(f"{name}, events", lambda side: list(create(side, **ask(side, **more, stream=True))))
    judge.same("streamed", lambda side: streamed(side, ask(side)))
    judge.same("whole, async", lambda side: asyncio.run(once(side, False)))
    judge.same("streamed, async", lambda side: asyncio.run(once(side, True)))
    for stream in (False, True):
        judge.same(f"bytes and headers, streaming {stream}", lambda side: raw(side, stream))
    same_body = judge.arrived(["direct", "responses"])
    judge.check("the request arrives as it was sent", same_body[0] == same_body[1].replace('"responses",', '"sim",', 1), same_body)
    reply = create(judge.gateway, **ask(judge.gateway))
    judge.check("the request id is the provider's", reply._request_id.startswith("req_sim"), reply._request_id)


async def once(side, streaming):
    async with client_async(side) as asking:
        if not streaming:
            return await asking.responses.create(**ask(side))
        async with asking.responses.stream(**ask(side)) as stream:
            events = [plain(event) async for event in stream]
            return {"events": events, "final": await stream.get_final_response()}


def raw(side, stream):
    with client(side).responses.with_streaming_response.create(**ask(side, stream=stream)) as got:
        text = b"".join(got.iter_bytes()).decode()
        # The moment is in every answer and in many events.
        return re.sub(r'"(created|completed)_at":[\d.]+', "", text), {name: got.headers.get(name) for name in HEADERS}


def tools(judge):
    for streaming in (False, True):
        for task, files, more in (
            (COUNT, {"notes_md": "one two three"}, SEALED),
            (MERGE, {"a_md": "A\n", "b_md": "B\n", "c_md": "C\n"}, {}),
        ):
            name = f"{task.split()[0].lower()} with tools, streaming {streaming}"
            both = {side: Files(**files) for side in ("direct", "gateway")}
            more = {key: value for key, value in more.items() if key != "store"}
            replies = judge.same(name, lambda side: worked(side, "responses", task, both[side.name], streaming, **more))
            judge.check(f"{name}, files", both["direct"].files == both["gateway"].files and len(both["gateway"].files) > len(files), both)
            if task == MERGE and isinstance(replies, list):
                most = max(sum(item["type"] == "function_call" for item in reply["output"]) for reply in replies)
                judge.check(f"{name}, in parallel", most == 3, most)
    judge.same("parse", lambda side: parsed(side, "responses"))
    judge.same("parse, streamed", lambda side: streamed(side, ask(side), text_format=Walk)["final"])


def parsed(side, name):
    return client(side).responses.parse(**ask(side, name), text_format=Walk).output_parsed


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
        "credit-exhausted": openai.RateLimitError,
        "server": openai.InternalServerError,
        "overloaded": openai.InternalServerError,
    }.items():
        # What was tried again is told in the gateway's own words, which have one type for each kind.
        only = ("class", "status", "code", "message")
        judge.raises(name, error, lambda side: create(side, **ask(side), **fault(name)), only)
        judge.raises(f"{name}, streamed", error, lambda side: list(create(side, **ask(side, stream=True), **fault(name))), only)
    late = fault("in-stream-late:overloaded")
    judge.raises("in the stream", openai.APIError, lambda side: list(create(side, **ask(side, stream=True), **late)), ("class", "code", "message"))
    long = {"max_output_tokens": 16, "input": "word " * 9000}
    judge.raises("too long", openai.BadRequestError, lambda side: create(side, **ask(side, "responses-small", **long)))
    judge.raises("no such model", openai.NotFoundError, lambda side: create(side, **ask(side, "responses-nothing")))
    gone_on = {"previous_response_id": "resp_unknown"}
    judge.raises("a response that nobody kept", openai.BadRequestError, lambda side: create(side, **ask(side, **gone_on)))
    judge.raises(
        "a wrong key",
        openai.AuthenticationError,
        lambda side: client(side, "wrong" if side.is_direct else None).responses.create(**ask(side, "stranger-responses")),
        only=("class", "status", "type", "code"),
    )


def failover(judge):
    """What only a gateway can do."""
    whole = essence(create(judge.direct, **ask(judge.direct)))
    for name in ("chat", "messages", "down-responses", "down-responses-across"):
        judge.only_gateway(f"whole with {name}", lambda side: essence(create(side, **ask(side, name))), lambda seen: seen == whole)
        judge.only_gateway(f"streamed with {name}", lambda side: essence(streamed(side, ask(side, name))["final"]), lambda seen: seen == whole)
        judge.only_gateway(f"sealed thinking with {name}", lambda side: essence(create(side, **ask(side, name, **SEALED)))["texts"], lambda seen: seen == whole["texts"])
        for streaming in (False, True):
            files = Files(a_md="A\n", b_md="B\n", c_md="C\n")
            done = lambda _: files.files.get("all.md") == "A\n\nB\n\nC\n"
            judge.only_gateway(f"tools with {name}, streaming {streaming}", lambda side: worked(side, name, MERGE, files, streaming), done)
        judge.only_gateway(f"parse with {name}", lambda side: parsed(side, name), lambda seen: set(seen) == {"roads", "name"})
    for name in ("chat", "messages"):
        lost = lambda side: create(side, **ask(side, name, previous_response_id="resp_unknown"))
        seen = judge.only_gateway(f"a kept response with {name}", lambda side: refused(lost, side))
        judge.check(f"a kept response with {name} is refused", isinstance(seen, str) and "BadRequestError" in seen, seen)
    for streaming in (False, True):
        judge.reset()
        asked = lambda side: streamed(side, ask(side, "twice-responses"))["final"] if streaming else create(side, **ask(side, "twice-responses"))
        judge.only_gateway(f"two rate limits, streaming {streaming}", lambda side: essence(asked(side)), lambda seen: seen == whole)
    for name in ("cut-at:900", "end-early", "malformed-stream:5"):
        cut = lambda side: list(create(side, **ask(side, stream=True), **fault(name)))
        seen = judge.only_gateway(f"a stream that is cut ({name})", lambda side: refused(cut, side))
        judge.check(f"a stream that is cut ({name}) raises", isinstance(seen, str), seen)


def refused(case, side):
    try:
        return plain(case(side))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    judge = Judgement(sys.argv[1:])
    for cases in (answers, tools, errors, failover):
        cases(judge)
    sys.exit(0 if judge.tell(f"openai {openai.__version__} (Python), Responses") else 1)


main()
