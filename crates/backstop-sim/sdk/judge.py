"""Judges the simulated provider by the official SDKs: what they accept as their own API's answers, and which of their
exceptions each error becomes. Usage: judge.py ADDRESS, where the example `serve` listens. Exits 1 when something is not
as it should be. Traffic goes to loopback only."""

import json
import sys

import anthropic
import openai
import pydantic

TOOLS = {
    "read_file": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    "write_file": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path", "content"],
    },
}
TASK = "Count the words in notes.md and write the number to count.txt"
SECONDS_MAX = 30
ASK = [{"role": "user", "content": "How many roads must a man walk down?"}]

failures = []
checks = 0


def check(name, so, seen=""):
    global checks
    checks += 1
    if not so:
        failures.append(name)
        print(f"NOT SO: {name}: {seen!r}")


def raises(name, error, call):
    try:
        call()
    except Exception as caught:  # the class is what is judged
        check(name, type(caught) is error, caught)
        return caught
    check(name, False, "nothing was raised")


def execute(files, name, args):
    if name == "read_file":
        return files.get(args["path"], f"File not found: {args['path']}")
    files[args["path"]] = args["content"]
    return "written"


def judge_anthropic(address):
    client = anthropic.Anthropic(base_url=f"http://{address}/p/a", api_key="sim-key", max_retries=0, timeout=SECONDS_MAX)
    ask = {"model": "sim", "max_tokens": 500, "messages": ASK}
    whole = client.messages.create(**ask)
    check("anthropic whole", "roads" in whole.content[0].text and whole.stop_reason == "end_turn", whole)
    check("anthropic request id", whole._request_id.startswith("req_sim"), whole._request_id)
    with client.messages.stream(**ask) as stream:
        final = stream.get_final_message()
    check("anthropic stream says the same", final.content[0].text == whole.content[0].text, final)
    check("anthropic stream usage", final.usage.output_tokens == whole.usage.output_tokens, final.usage)
    check("anthropic input usage", final.usage.input_tokens == whole.usage.input_tokens, final.usage)
    thinking = client.messages.create(**{**ask, "max_tokens": 2000}, thinking={"type": "enabled", "budget_tokens": 1024})
    check("anthropic thinking", [b.type for b in thinking.content] == ["thinking", "text"], thinking)
    count = client.messages.count_tokens(model="sim", messages=ASK)
    check("anthropic count", count.input_tokens == whole.usage.input_tokens, count)
    check("anthropic models", [m.id for m in client.models.list()] == ["sim", "sim-small"])
    for streaming in (False, True):
        files = {"notes.md": "one two three"}
        judge_anthropic_tools(client, files, streaming)
        check(f"anthropic tools, streaming {streaming}", files.get("count.txt") == "3\n", files)
    judge_anthropic_errors(client, ask)


def judge_anthropic_tools(client, files, streaming):
    tools = [{"name": name, "description": "", "input_schema": schema} for name, schema in TOOLS.items()]
    messages = [{"role": "user", "content": TASK}]
    for _ in range(10):
        ask = {"model": "sim", "max_tokens": 500, "messages": messages, "tools": tools}
        if streaming:
            with client.messages.stream(**ask) as stream:
                reply = stream.get_final_message()
        else:
            reply = client.messages.create(**ask)
        if reply.stop_reason != "tool_use":
            return
        messages.append({"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in reply.content]})
        results = [
            {"type": "tool_result", "tool_use_id": b.id, "content": execute(files, b.name, b.input)}
            for b in reply.content
            if b.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})


def judge_anthropic_errors(client, ask):
    rows = {
        "invalid": anthropic.BadRequestError,
        "context-length": anthropic.BadRequestError,
        "own-spend-limit": anthropic.BadRequestError,
        "authentication": anthropic.AuthenticationError,
        "billing": anthropic.PaymentRequiredError,
        "permission": anthropic.PermissionDeniedError,
        "not-found": anthropic.NotFoundError,
        "conflict": anthropic.ConflictError,
        "unprocessable": anthropic.UnprocessableEntityError,
        "rate-limit": anthropic.RateLimitError,
        "enforced-spend-limit": anthropic.EnforcedSpendLimitReachedError,
        "server": anthropic.InternalServerError,
        "cut-before-body": anthropic.APIConnectionError,
    }
    for fault, error in rows.items():
        headers = {"x-sim-fault": fault}
        raises(f"anthropic {fault}", error, lambda h=headers: client.messages.create(**ask, extra_headers=h))
    headers = {"x-sim-fault": "overloaded"}
    caught = raises(
        "anthropic overloaded",
        getattr(anthropic._exceptions, "OverloadedError", anthropic.InternalServerError),
        lambda: client.messages.create(**ask, extra_headers=headers),
    )
    check("anthropic overloaded status", getattr(caught, "status_code", None) == 529, caught)
    raises("anthropic wrong key", anthropic.AuthenticationError,
           lambda: client.with_options(api_key="wrong").messages.create(**ask))
    for fault in ("in-stream:overloaded", "in-stream-late:server"):
        def streamed(fault=fault):
            with client.messages.stream(**ask, extra_headers={"x-sim-fault": fault}) as stream:
                stream.get_final_message()
        try:
            streamed()
            check(f"anthropic {fault}", False)
        except anthropic.APIStatusError as caught:
            check(f"anthropic {fault}", caught.body["error"]["type"] in ("overloaded_error", "api_error"), caught.body)
    retried = client.with_options(max_retries=2)
    reply = retried.messages.create(**ask, extra_headers={})
    check("anthropic retry path", reply.stop_reason == "end_turn", reply)
    refused = client.messages.create(**ask, extra_headers={"x-sim-fault": "refusal"})
    check("anthropic refusal", refused.stop_reason == "refusal", refused)


def judge_openai(address):
    client = openai.OpenAI(base_url=f"http://{address}/p/b/v1", api_key="sim-key", max_retries=0, timeout=SECONDS_MAX)
    ask = {"model": "sim", "max_tokens": 500, "messages": ASK}
    create = client.chat.completions.create
    whole = create(**ask)
    text = whole.choices[0].message.content
    check("openai whole", "roads" in text and whole.choices[0].finish_reason == "stop", whole)
    check("openai request id", whole._request_id.startswith("req_sim"), whole._request_id)
    chunks = list(create(**ask, stream=True, stream_options={"include_usage": True}))
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check("openai stream says the same", said == text, said)
    usage = [c.usage for c in chunks if c.usage]
    check("openai stream usage", [u.total_tokens for u in usage] == [whole.usage.total_tokens], usage)
    check("openai no usage unasked", not any(c.usage for c in create(**ask, stream=True)))
    check("openai models", [m.id for m in client.models.list()] == ["sim", "sim-small"])
    for streaming in (False, True):
        files = {"notes.md": "one two three"}
        judge_openai_tools(client, files, streaming)
        check(f"openai tools, streaming {streaming}", files.get("count.txt") == "3\n", files)
    shape = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    fitted = create(**ask, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": shape}})
    check("openai structured", fitted.choices[0].message.content == '{"n":0}', fitted)
    judge_openai_errors("openai", create, ask)


def judge_openai_tools(client, files, streaming):
    tools = [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in TOOLS.items()]
    messages = [{"role": "user", "content": TASK}]
    for _ in range(10):
        ask = {"model": "sim", "messages": messages, "tools": tools}
        if streaming:
            with client.chat.completions.stream(**ask) as stream:
                message = stream.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(**ask).choices[0].message
        if not message.tool_calls:
            return
        messages.append(
            {
                "role": "assistant",
                "content": message.content,
                "tool_calls": [
                    {
                        "id": c.id,
                        "type": "function",
                        "function": {"name": c.function.name, "arguments": c.function.arguments},
                    }
                    for c in message.tool_calls
                ],
            }
        )
        for c in message.tool_calls:
            result = execute(files, c.function.name, json.loads(c.function.arguments))
            messages.append({"role": "tool", "tool_call_id": c.id, "content": result})


class Shape(pydantic.BaseModel):
    n: int


def judge_responses(address):
    client = openai.OpenAI(base_url=f"http://{address}/p/c/v1", api_key="sim-key", max_retries=0, timeout=SECONDS_MAX)
    ask = {"model": "sim", "max_output_tokens": 500, "input": ASK}
    create = client.responses.create
    whole = create(**ask)
    check("responses whole", "roads" in whole.output_text and whole.status == "completed", whole)
    check("responses request id", whole._request_id.startswith("req_sim"), whole._request_id)
    with client.responses.stream(**ask) as stream:
        pieces = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    check("responses stream says the same", final.output_text == whole.output_text == "".join(pieces), final)
    check("responses stream usage", final.usage == whole.usage and final.usage.output_tokens > 0, final.usage)
    events = list(create(**ask, stream=True))
    check("responses events", [e.sequence_number for e in events] == list(range(len(events))), events)
    check("responses begin and end", (events[0].type, events[-1].type) == ("response.created", "response.completed"), events)
    check("responses of a text", create(**{**ask, "input": ASK[0]["content"]}).output_text == whole.output_text)
    judge_responses_thoughts(client, ask)
    for streaming in (False, True):
        files = {"notes.md": "one two three"}
        judge_responses_tools(client, files, streaming)
        check(f"responses tools, streaming {streaming}", files.get("count.txt") == "3\n", files)
    check("responses structured", client.responses.parse(**ask, text_format=Shape).output_parsed == Shape(n=0))
    with client.responses.stream(**ask, text_format=Shape) as stream:
        check("responses structured, streaming", stream.get_final_response().output_parsed == Shape(n=0))
    cut = create(**ask, extra_headers={"x-sim-fault": "truncated"})
    check("responses cut", (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens"), cut)
    refused = create(**ask, extra_headers={"x-sim-fault": "refusal"})
    check("responses refusal", refused.incomplete_details.reason == "content_filter", refused)
    judge_openai_errors("responses", create, ask)


def judge_responses_thoughts(client, ask):
    thinks = {**ask, "reasoning": {"effort": "low"}, "store": False, "include": ["reasoning.encrypted_content"]}
    whole = client.responses.create(**thinks)
    check("responses thinking", [i.type for i in whole.output] == ["reasoning", "message"], whole)
    check("responses thinking is sealed", bool(whole.output[0].encrypted_content), whole.output[0])
    with client.responses.stream(**thinks) as stream:
        final = stream.get_final_response()
    check("responses thinking, streaming", final.output == whole.output or
          [i.model_dump(exclude={"parsed", "content"}) for i in final.output]
          == [i.model_dump(exclude={"parsed", "content"}) for i in whole.output], final.output)
    back = ASK + [i.model_dump(exclude_none=True) for i in whole.output] + [{"role": "user", "content": "Go on."}]
    check("responses thinking is taken back", client.responses.create(**{**thinks, "input": back}).status == "completed")


def judge_responses_tools(client, files, streaming):
    tools = [{"type": "function", "name": n, "parameters": s, "strict": False} for n, s in TOOLS.items()]
    items = [{"role": "user", "content": TASK}]
    for _ in range(10):
        ask = {"model": "sim", "input": items, "tools": tools, "store": False}
        if streaming:
            with client.responses.stream(**ask) as stream:
                reply = stream.get_final_response()
        else:
            reply = client.responses.create(**ask)
        calls = [i for i in reply.output if i.type == "function_call"]
        if not calls:
            return
        items += [i.to_dict() for i in reply.output]
        for c in calls:
            result = execute(files, c.name, json.loads(c.arguments))
            items.append({"type": "function_call_output", "call_id": c.call_id, "output": result})


def judge_openai_errors(name, create, ask):
    rows = {
        "invalid": (openai.BadRequestError, None),
        "context-length": (openai.BadRequestError, "context_length_exceeded"),
        "authentication": (openai.AuthenticationError, "invalid_api_key"),
        "permission": (openai.PermissionDeniedError, "unsupported_country_region_territory"),
        "not-found": (openai.NotFoundError, "model_not_found"),
        "conflict": (openai.ConflictError, None),
        "unprocessable": (openai.UnprocessableEntityError, None),
        "rate-limit": (openai.RateLimitError, "rate_limit_exceeded"),
        "slow-down": (openai.RateLimitError, "slow_down"),
        "credit-exhausted": (openai.RateLimitError, "credit_balance_exhausted"),
        "server": (openai.InternalServerError, None),
        "overloaded": (openai.InternalServerError, "server_is_overloaded"),
    }
    for fault, (error, code) in rows.items():
        caught = raises(f"{name} {fault}", error, lambda f=fault: create(**ask, extra_headers={"x-sim-fault": f}))
        check(f"{name} {fault} code", getattr(caught, "code", None) == code, caught)
    raises(f"{name} cut", openai.APIConnectionError,
           lambda: create(**ask, extra_headers={"x-sim-fault": "cut-before-body"}))
    for fault in ("in-stream:overloaded", "in-stream-late:server"):
        headers = {"x-sim-fault": fault}
        raises(f"{name} {fault}", openai.APIError, lambda h=headers: list(create(**ask, stream=True, extra_headers=h)))


def main():
    address = sys.argv[1]
    judge_anthropic(address)
    judge_openai(address)
    judge_responses(address)
    print(f"anthropic {anthropic.__version__}, openai {openai.__version__}: {checks} checks, {len(failures)} failed")
    sys.exit(1 if failures else 0)


main()
