//! Bodies that are wrong are refused with the path of what is wrong.

use backstop_call::Dialect;
use backstop_wire::{parse_reply, parse_request};

use Dialect::{Chat, Messages, Responses};

#[test]
fn a_wrong_request_is_refused_with_its_path() {
    let rows = [
        (Messages, "", "body: is no valid JSON (EOF while parsing a value at line 1 column 0)"),
        (Messages, "[]", "body: must be an object"),
        (Messages, "{}", "model: is missing"),
        (Messages, r#"{"model":7}"#, "model: must be a string"),
        (Messages, r#"{"model":"m"}"#, "messages: is missing"),
        (Messages, r#"{"model":"m","messages":{}}"#, "messages: must be an array"),
        (Messages, r#"{"model":"m","messages":[7]}"#, "messages[0]: must be an object"),
        (
            Messages,
            r#"{"model":"m","messages":[{"role":"boss","content":""}]}"#,
            "messages[0].role: `boss` is not user, assistant or system",
        ),
        (Messages, r#"{"model":"m","messages":[{"role":"user"}]}"#, "messages[0].content: is missing"),
        (
            Messages,
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
            "messages[0].content: must be a string or an array",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[{"role":"user","content":""},{"role":"user","content":[{"text":"x"}]}]}"#,
            "messages[1].content[0].type: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}]}]}"#,
            "messages[0].content[0].content[0].source: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":""}}]}]}"#,
            "messages[0].content[0].source.media_type: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[],"max_tokens":-1}"#,
            "max_tokens: must be a whole number from 0 up",
        ),
        (Messages, r#"{"model":"m","messages":[],"temperature":"hot"}"#, "temperature: must be a number"),
        (Messages, r#"{"model":"m","messages":[],"stream":"yes"}"#, "stream: must be true or false"),
        (
            Messages,
            r#"{"model":"m","messages":[],"stop_sequences":["a",1]}"#,
            "stop_sequences[1]: must be a string",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[],"tools":[{"input_schema":{}}]}"#,
            "tools[0].name: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[],"tool_choice":{"type":"tool"}}"#,
            "tool_choice.name: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[],"thinking":{"type":"enabled"}}"#,
            "thinking.budget_tokens: is missing",
        ),
        (
            Messages,
            r#"{"model":"m","messages":[],"output_config":{"format":{"type":"xml"}}}"#,
            "output_config.format.type: `xml` is not json_schema",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#,
            "messages[0].content[0].image_url.url: is missing",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"tool","content":""}]}"#,
            "messages[0].tool_call_id: is missing",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"function","content":""}]}"#,
            "messages[0].role: `function` is not system, developer, user, assistant or tool",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a"}]}]}"#,
            "messages[0].tool_calls[0].function: is missing",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":[]}}]}]}"#,
            "messages[0].tool_calls[0].function.arguments: must be a string",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[{"role":"assistant","function_call":{}}]}"#,
            "messages[0].function_call: is out of use; send tool_calls",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#,
            "tools[0].function: is missing",
        ),
        (
            Chat,
            r#"{"model":"m","messages":[],"tool_choice":"maybe"}"#,
            "tool_choice: `maybe` is not auto, required or none",
        ),
        (Chat, r#"{"model":"m","messages":[],"stop":7}"#, "stop: must be an array"),
        (
            Chat,
            r#"{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}"#,
            "response_format.json_schema.schema: is missing",
        ),
    ];
    let responses = [
        (r#"{"input":"x"}"#, "model: is missing"),
        (r#"{"model":"m","input":7}"#, "input: must be a string or an array"),
        (r#"{"model":"m","input":[7]}"#, "input[0]: must be an object"),
        (r#"{"model":"m","input":[{}]}"#, "input[0].type: is missing"),
        (
            r#"{"model":"m","input":[{"role":"tool","content":"x"}]}"#,
            "input[0].role: `tool` is not user, assistant, system or developer",
        ),
        (r#"{"model":"m","input":[{"role":"user"}]}"#, "input[0].content: is missing"),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"text":"x"}]}]}"#,
            "input[0].content[0].type: is missing",
        ),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text"}]}]}"#,
            "input[0].content[0].text: is missing",
        ),
        (
            r#"{"model":"m","input":[{"role":"boss","content":[],"phase":"x"}]}"#,
            "input[0].role: `boss` is not user, assistant, system or developer",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call","call_id":"a","arguments":"{}"}]}"#,
            "input[0].name: is missing",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call_output","output":"x"}]}"#,
            "input[0].call_id: is missing",
        ),
        (
            r#"{"model":"m","input":[{"type":"reasoning","encrypted_content":"x","summary":[{"type":"summary_text"}]}]}"#,
            "input[0].summary[0].text: is missing",
        ),
        (r#"{"model":"m","input":"","tools":[{"type":"function"}]}"#, "tools[0].name: is missing"),
        (r#"{"model":"m","input":"","tools":[{"name":"f"}]}"#, "tools[0].type: is missing"),
        (
            r#"{"model":"m","input":"","tool_choice":"maybe"}"#,
            "tool_choice: `maybe` is not auto, required or none",
        ),
        (r#"{"model":"m","input":"","tool_choice":{"type":"function"}}"#, "tool_choice.name: is missing"),
        (
            r#"{"model":"m","input":"","text":{"format":{"type":"xml"}}}"#,
            "text.format.type: `xml` is not text, json_object or json_schema",
        ),
        (
            r#"{"model":"m","input":"","text":{"format":{"type":"json_schema","name":"x"}}}"#,
            "text.format.schema: is missing",
        ),
        (r#"{"model":"m","input":"","reasoning":{"effort":7}}"#, "reasoning.effort: must be a string"),
        (r#"{"model":"m","input":"","store":"yes"}"#, "store: must be true or false"),
    ];
    let responses = responses.map(|(body, want)| (Responses, body, want));
    for (dialect, body, want) in rows.into_iter().chain(responses) {
        let error = parse_request(dialect, body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), want, "{body}");
    }
}

#[test]
fn a_wrong_reply_is_refused_with_its_path() {
    let rows = [
        (Messages, "<html>", "body: is no valid JSON (expected value at line 1 column 1)"),
        (Messages, r#"{"type":"error","error":{"type":"api_error"}}"#, "content: is missing"),
        (Messages, r#"{"id":"i","model":"m","content":[]}"#, "stop_reason: is missing"),
        (
            Messages,
            r#"{"id":"i","model":"m","content":[{"type":"text"}],"stop_reason":"end_turn"}"#,
            "content[0].text: is missing",
        ),
        (
            Messages,
            r#"{"id":"i","model":"m","content":[],"stop_reason":"end_turn","usage":{"input_tokens":"many"}}"#,
            "usage.input_tokens: must be a whole number from 0 up",
        ),
        (Responses, r#"{"status":"completed"}"#, "output: is missing"),
        (
            Responses,
            r#"{"status":"failed","error":{"code":"server_error"},"output":[]}"#,
            "status: is failed",
        ),
        (
            Responses,
            r#"{"output":[{"type":"message","content":[{"type":"output_text"}]}]}"#,
            "output[0].content[0].text: is missing",
        ),
        (Responses, r#"{"output":[{"type":"function_call","call_id":"a"}]}"#, "output[0].name: is missing"),
        (Responses, r#"{"output":[7]}"#, "output[0]: must be an object"),
        (Chat, r#"{"choices":[]}"#, "choices: is empty"),
        (Chat, r#"{"choices":[{"message":{"content":"x"}}],"usage":7}"#, "usage: must be an object"),
        (Chat, r#"{"choices":[{"finish_reason":"stop"}]}"#, "choices[0].message: is missing"),
        (
            Chat,
            r#"{"choices":[{"message":{"tool_calls":[{"function":{"name":"f"}}]}}]}"#,
            "choices[0].message.tool_calls[0].id: is missing",
        ),
    ];
    for (dialect, body, want) in rows {
        let error = parse_reply(dialect, body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), want, "{body}");
    }
}
