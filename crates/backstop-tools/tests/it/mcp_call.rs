//! One call of a tool of an MCP server, however the server draws it out.

use super::kit::Room;
use super::mcp::{call, server, tool};
use super::mcp_server;
use backstop_agent::ToolError;
use backstop_tools::mcp::{McpGrant, McpReport};
use serde_json::json;
use std::collections::BTreeMap;

fn grant() -> McpGrant {
    serde_json::from_value(json!({
        "command": mcp_server::command(),
        "env": BTreeMap::from([mcp_server::mode("tries what it may")]),
        "tools": {"attempt": {"class": "write"}},
        "programs": {"read": [mcp_server::place()]},
        "limits": {"idle-ms": 1_000, "total-ms": 2_000},
    }))
    .unwrap()
}

async fn said(room: &Room, report: &McpReport, what: &str) -> Result<String, ToolError> {
    call(room, &tool(report, "attempt"), json!({"what": what})).await
}

fn unknown(reason: &str) -> Result<String, ToolError> {
    let text = format!("the MCP server bad had been given the call: {reason}; it may have been carried out");
    Err(ToolError::Unknown(text))
}

/// It would be done after half a minute, and is never silent for a second.
#[tokio::test]
async fn progress_draws_no_call_out_beyond_its_whole_time() {
    let room = Room::new(&[]);
    let report = server("bad", grant(), room.path()).connect().await;
    assert_eq!(said(&room, &report, "go on and on").await, unknown("it did not answer in time"));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_called_off() {
    let room = Room::new(&[]);
    let report = server("bad", grant(), room.path()).connect().await;
    assert_eq!(
        said(&room, &report, "tell what was called off").await,
        Ok("[done; the server said nothing]".to_owned())
    );
    assert_eq!(said(&room, &report, "hang").await, unknown("it did not answer in time"));
    // It is told in a task of its own, which a call that is made at once may overtake, but not one after the other.
    let mut told = Vec::new();
    for _ in 0..10 {
        told.push(said(&room, &report, "tell what was called off").await.unwrap());
    }
    assert_eq!(told.last().map(String::as_str), Some("nobody waits for it any more"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_more_in_the_middle_of_a_call_gets_nothing() {
    let room = Room::new(&[]);
    let report = server("bad", grant(), room.path()).connect().await;
    let refused = "it asks for more in the middle of the call, which is refused";
    assert_eq!(said(&room, &report, "ask for more").await, unknown(refused));
}
