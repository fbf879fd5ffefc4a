//! Uses the reference servers of MCP as tools, as a run would: `cargo xtask mcp` installs them and runs this with the folder
//! they are in. Everything that is not as it must be is told, and then it ends with an error.
#![expect(clippy::print_stdout, reason = "what was found is what it is run for")]

use backstop_agent::tool::Job;
use backstop_agent::{Tool, ToolContext, ToolError, Toolbox};
use backstop_call::{Block, Labels, Secret};
use backstop_tools::mcp::{Launch, McpGrant, McpReport, McpServer, PinFile, connect_all};
use backstop_tools::sandbox::{self, Sandbox};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A call with what must come of it.
struct Case {
    server: &'static str,
    tool: &'static str,
    args: Value,
    want: Want,
}

enum Want {
    /// The whole text.
    Text(String),
    /// A piece of the text.
    Piece(&'static str),
    /// A picture besides.
    Picture,
    /// A piece of the error of a call that changed nothing.
    Failed(&'static str),
    /// The arguments do not pass the server's schema.
    Refused(&'static str),
}

/// What this program is called by as the helper of its own sandbox.
const SANDBOX: &str = "sandbox";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(SANDBOX) {
        return sandbox::enter();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(check())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            println!("{faults}");
            ExitCode::FAILURE
        }
    }
}

async fn check() -> Outcome<()> {
    let installed = std::env::args().nth(1).ok_or("the folder of the installation is missing")?;
    let installed = Path::new(&installed);
    let room = tempfile::tempdir()?;
    let files = room.path().canonicalize()?.join("files");
    std::fs::create_dir(&files)?;
    std::fs::write(files.join("notes.md"), "one\ntwo\nthree\n")?;
    let (web, port) = web_server(installed).await?;
    let pins = Arc::new(PinFile::at(room.path().join("pins.json")));
    let launch = Launch::new(Sandbox::new("/proc/self/exe", [SANDBOX]));
    let servers = grants(installed, &files, port)?
        .into_iter()
        .map(|(name, grant)| {
            let resolve = |_: &str| Some(Secret::new("token-of-the-test"));
            McpServer::new(name, grant, &resolve, launch.clone(), Arc::<PinFile>::clone(&pins) as _)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let reports = connect_all(&servers).await;
    let mut faults = Vec::new();
    for report in &reports {
        let told = (&report.failure, &report.left_out, &report.missing, report.quarantined.len());
        if told != (&None, &Vec::new(), &Vec::new(), 0) {
            faults.push(format!("{}: {told:?}", report.server));
        }
        println!(
            "{}: {} tools offered, {} not listed",
            report.server,
            report.tools.len(),
            report.unlisted.len()
        );
    }
    for case in cases(&files) {
        let found = found(&reports, &case).await;
        let is_right = is_right(&found, &case.want);
        println!("{} {} {}", if is_right { "ok" } else { "WRONG" }, case.server, case.tool);
        if !is_right {
            faults.push(format!("{} {} {}: {found:?}", case.server, case.tool, case.args));
        }
    }
    drop(web);
    if std::fs::read_to_string(files.join("new.md"))? != "ONE\n" {
        faults.push("new.md is not what was written and edited".to_owned());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn grants(installed: &Path, files: &Path, port: u16) -> Outcome<Vec<(&'static str, McpGrant)>> {
    let program = |name: &str| {
        installed
            .join("node_modules/@modelcontextprotocol")
            .join(name)
            .join("dist/index.js")
            .display()
            .to_string()
    };
    let read = json!({"class": "read", "effect": "read", "args": {"path": "object"}});
    let write =
        json!({"class": "idempotent", "effect": "write", "args": {"path": "object", "content": "content"}});
    let filesystem = json!({
        "command": ["node", program("server-filesystem"), files],
        "programs": {"read": [installed], "write": [files]},
        "tools": {
            "read_text_file": read, "read_multiple_files": read, "list_directory": read, "directory_tree": read,
            "search_files": read, "get_file_info": read, "list_allowed_directories": read,
            "write_file": write, "edit_file": write, "create_directory": write, "move_file": write,
        },
    });
    let everything = json!({
        "echo": read, "get-sum": read, "get-structured-content": read, "get-tiny-image": read, "get-env": read,
        "get-annotated-message": read, "get-resource-links": read, "get-resource-reference": read,
        "trigger-long-running-operation": read,
    });
    // The long operation is silent for less than this between two signs of progress, and takes longer as a whole.
    let limits = json!({"idle-ms": 2_500, "total-ms": 20_000});
    let stdio = json!({
        "command": ["node", program("server-everything"), "stdio"],
        "programs": {"read": [installed]},
        "tools": everything,
        "secret-env": {"TOKEN": "env:TOKEN"},
        "limits": limits,
    });
    let http = json!({
        "url": format!("http://127.0.0.1:{port}/mcp"),
        "private-addresses": true,
        "tools": everything,
        "limits": limits,
    });
    let grants = [("files", filesystem), ("everything", stdio), ("web", http)];
    grants.into_iter().map(|(name, grant)| Ok((name, serde_json::from_value(grant)?))).collect()
}

/// Starts the server that speaks HTTP, and waits until it listens.
async fn web_server(installed: &Path) -> Outcome<(Child, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Command::new("node")
        .arg(installed.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js"))
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(server.stderr.take().ok_or("it has no stderr")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("listening on port") {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((server, port));
        }
    }
    Err("the server ended before it listened".into())
}

fn cases(files: &Path) -> Vec<Case> {
    let at = |name: &str| files.join(name).display().to_string();
    let case = |server, tool, args, want| Case { server, tool, args, want };
    let text = |text: &str| Want::Text(text.to_owned());
    let wrote = Want::Text(format!("Successfully wrote to {}", at("new.md")));
    let edits = json!([{"oldText": "one", "newText": "ONE"}]);
    let outside = json!({"path": "/etc/passwd"});
    let mut cases = vec![
        case("files", "list_allowed_directories", json!({}), Want::Piece("files")),
        case("files", "read_text_file", json!({"path": at("notes.md")}), text("one\ntwo\nthree\n")),
        case("files", "read_text_file", json!({"path": at("notes.md"), "head": 1}), text("one")),
        case("files", "read_text_file", outside, Want::Failed("Access denied")),
        case("files", "read_text_file", json!({"path": at("gone")}), Want::Failed("ENOENT")),
        case("files", "read_text_file", json!({}), Want::Refused("\"path\" is a required property")),
        case("files", "write_file", json!({"path": at("new.md"), "content": "one\n"}), wrote),
        case("files", "edit_file", json!({"path": at("new.md"), "edits": edits}), Want::Piece("+ONE")),
        case(
            "files",
            "write_file",
            json!({"path": "/etc/new", "content": ""}),
            Want::Piece("The server reports an error"),
        ),
        case("files", "list_directory", json!({"path": files}), text("[FILE] new.md\n[FILE] notes.md")),
        case("files", "search_files", json!({"path": files, "pattern": "no*"}), text(&at("notes.md"))),
        case("files", "get_file_info", json!({"path": at("notes.md")}), Want::Piece("size: 14")),
        case("everything", "get-env", json!({}), Want::Piece("\"TOKEN\": \"[secret]\"")),
    ];
    for server in ["everything", "web"] {
        cases.extend([
            case(
                server,
                "echo",
                json!({"message": "hello \u{202e}there"}),
                text("Echo: hello there\n[1 characters that nobody sees were taken out]"),
            ),
            case(server, "get-sum", json!({"a": 20, "b": 22}), text("The sum of 20 and 22 is 42.")),
            case(server, "get-sum", json!({"a": "x"}), Want::Refused("\"b\" is a required property")),
            case(
                server,
                "get-structured-content",
                json!({"location": "Chicago"}),
                Want::Piece("\"temperature\""),
            ),
            case(server, "get-tiny-image", json!({}), Want::Picture),
            case(
                server,
                "get-annotated-message",
                json!({"messageType": "error"}),
                Want::Piece("Error: Operation failed"),
            ),
            case(server, "get-resource-links", json!({"count": 2}), Want::Piece("[link to demo://")),
            case(
                server,
                "get-resource-reference",
                json!({"resourceType": "Text", "resourceId": 1}),
                Want::Piece("[demo://"),
            ),
            case(
                server,
                "trigger-long-running-operation",
                json!({"duration": 3, "steps": 6}),
                text("Long running operation completed. Duration: 3 seconds, Steps: 6."),
            ),
        ]);
    }
    cases
}

/// What a call gives: its blocks, or its error.
async fn found(reports: &[McpReport], case: &Case) -> Result<Vec<Block>, String> {
    let name = format!("{}__{}", case.server, case.tool);
    let tool = reports.iter().flat_map(|report| &report.tools).find(|tool| tool.spec().name == name);
    let tool: Arc<dyn Tool> = Arc::clone(tool.ok_or("it is not offered")?);
    let mut toolbox = Toolbox::new();
    toolbox.add(Arc::clone(&tool)).map_err(|error| error.to_string())?;
    toolbox.check(&name, &case.args).map_err(|faults| format!("refused: {faults}"))?;
    let context = ToolContext {
        run: "reference".into(),
        call: "call".into(),
        workspace: None,
        labels: Labels::default(),
        undone: None,
        rehearsed: None,
    };
    let plan = tool.plan(&case.args, &context).await.map_err(|error| error.to_string())?;
    let job = Job { args: case.args.clone(), plan: plan.body, key: "key".to_owned() };
    match tool.run(&job, &context).await {
        Ok(output) => Ok(output.content),
        Err(ToolError::Failed(text)) => Err(format!("failed: {text}")),
        Err(ToolError::Unknown(text)) => Err(format!("unknown: {text}")),
    }
}

fn is_right(found: &Result<Vec<Block>, String>, want: &Want) -> bool {
    let text = |blocks: &[Block]| blocks.iter().filter_map(Block::as_text).collect::<String>();
    match (found, want) {
        (Ok(blocks), Want::Text(want)) => text(blocks) == *want,
        (Ok(blocks), Want::Piece(want)) => text(blocks).contains(want),
        (Ok(blocks), Want::Picture) => blocks.iter().any(|block| matches!(block, Block::Image { .. })),
        (Err(error), Want::Failed(want)) => error.starts_with("failed: ") && error.contains(want),
        (Err(error), Want::Refused(want)) => error.starts_with("refused: ") && error.contains(want),
        _ => false,
    }
}
