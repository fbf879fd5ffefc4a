//! A message: read from arguments, shown to a person, and written as bytes. Opens files and nothing else.

use super::grant::Granted;
use backstop_agent::{PathError, Workspace};
use backstop_agent::{visible, visible_line};
use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, SinglePart};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// The longest subject, in characters.
const SUBJECT_MAX_CHARS: usize = 250;
/// The most attachments.
const ATTACHMENTS_MAX: usize = 20;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// Who gets it: bare addresses, like ann@example.com.
    #[schemars(length(min = 1))]
    pub(super) to: Vec<String>,
    /// Who gets a copy, seen by all.
    #[serde(default)]
    pub(super) cc: Vec<String>,
    /// Who gets a copy, seen by nobody else.
    #[serde(default)]
    pub(super) bcc: Vec<String>,
    /// The subject, on one line.
    pub(super) subject: String,
    /// The text, without mark-up.
    pub(super) body: String,
    /// Files to attach, from the workspace's root.
    #[serde(default)]
    pub(super) attachments: Vec<String>,
}

/// A file as it was when the call was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Attached {
    path: String,
    /// BLAKE3 of its bytes, in hex.
    hash: String,
    bytes: u64,
}

/// A message that may be sent.
pub(super) struct Draft {
    to: Vec<Address>,
    cc: Vec<Address>,
    bcc: Vec<Address>,
    subject: String,
    body: String,
    files: Vec<(Attached, Vec<u8>)>,
}

impl Draft {
    /// Checks arguments and reads the attachments. The error is for the model.
    pub(super) fn read(granted: &Granted, args: Args, workspace: Option<&Workspace>) -> Result<Self, String> {
        let addresses = |texts: &[String]| {
            texts.iter().map(|text| granted.recipient(text)).collect::<Result<Vec<_>, _>>()
        };
        let (to, cc, bcc) = (addresses(&args.to)?, addresses(&args.cc)?, addresses(&args.bcc)?);
        let count = to.len() + cc.len() + bcc.len();
        if to.is_empty() || count > granted.max_recipients {
            return Err(format!(
                "A message has between 1 and {} recipients, and at least one in `to`; this one has {count}.",
                granted.max_recipients
            ));
        }
        if args.subject.chars().any(char::is_control) || args.subject.chars().count() > SUBJECT_MAX_CHARS {
            return Err(format!(
                "The subject has a line break or another control character, or more than {SUBJECT_MAX_CHARS} characters. \
                 Write it on one line."
            ));
        }
        if args.body.chars().any(|c| c.is_control() && !['\n', '\r', '\t'].contains(&c)) {
            return Err("The body has control characters. Write plain text.".to_owned());
        }
        let files = files(granted, &args.attachments, workspace)?;
        Ok(Self { to, cc, bcc, subject: args.subject, body: lines(&args.body), files })
    }

    /// The files, as they are now.
    pub(super) fn attached(&self) -> Vec<Attached> {
        self.files.iter().map(|(attached, _)| attached.clone()).collect()
    }

    pub(super) fn recipients(&self) -> Vec<Address> {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten().cloned().collect()
    }

    /// The message and its envelope. Its id is made from the call's key.
    pub(super) fn message(&self, from: &Mailbox, key: &str) -> Result<(Envelope, Vec<u8>), String> {
        let refused = |error: lettre::error::Error| format!("The message cannot be written: {error}.");
        let id = blake3::hash(key.as_bytes()).to_hex();
        let mut builder = Message::builder()
            .from(from.clone())
            .subject(self.subject.clone())
            .message_id(Some(format!("<{}@{}>", &id[..32], from.email.domain())))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for address in &self.to {
            builder = builder.to(Mailbox::new(None, address.clone()));
        }
        for address in &self.cc {
            builder = builder.cc(Mailbox::new(None, address.clone()));
        }
        // Not from the headers: those do not have the blind copies.
        let envelope = Envelope::new(Some(from.email.clone()), self.recipients()).map_err(refused)?;
        // Named, not left to be chosen: so that no line is too long, and no bare line end of a file is sent as one.
        let encode = |bytes: Vec<u8>, encoding| {
            Body::new_with_encoding(bytes, encoding).map_err(|_| "The message cannot be encoded.".to_owned())
        };
        let body = encode(self.body.clone().into_bytes(), ContentTransferEncoding::QuotedPrintable)?;
        let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body);
        let message = if self.files.is_empty() {
            builder.singlepart(text)
        } else {
            let mut parts = MultiPart::mixed().singlepart(text);
            for (attached, bytes) in &self.files {
                let binary = ContentType::parse("application/octet-stream").expect("it is a type");
                let body = encode(bytes.clone(), ContentTransferEncoding::Base64)?;
                parts = parts.singlepart(Attachment::new(attached.name()).body(body, binary));
            }
            builder.multipart(parts)
        };
        Ok((envelope, message.map_err(refused)?.formatted()))
    }

    /// The message as a person reads it.
    pub(super) fn preview(&self, from: &Mailbox) -> String {
        let list =
            |addresses: &[Address]| addresses.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
        let mut shown = format!("From: {}\n", visible_line(&from.to_string()));
        for (name, addresses) in [("To", &self.to), ("Cc", &self.cc), ("Bcc", &self.bcc)] {
            if !addresses.is_empty() {
                let _ = writeln!(shown, "{name}: {}", list(addresses));
            }
        }
        let _ = writeln!(shown, "Subject: {}", visible_line(&self.subject));
        for (attached, _) in &self.files {
            let Attached { path, hash, bytes } = attached;
            let hash = hash.get(..16).unwrap_or_default();
            let _ = writeln!(shown, "Attached: {} ({bytes} bytes, blake3 {hash}…)", visible_line(path));
        }
        let _ = write!(shown, "\n{}", visible(&self.body.replace("\r\n", "\n")));
        shown
    }
}

impl Attached {
    /// The file's name alone: where it lies is nobody's business.
    fn name(&self) -> String {
        let name = Path::new(&self.path).file_name().unwrap_or_default().to_string_lossy();
        name.chars().filter(|c| !c.is_control()).collect()
    }
}

/// Every kind of line end as SMTP has them: a bare one means the end of a message to some servers.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

fn files(
    granted: &Granted,
    paths: &[String],
    workspace: Option<&Workspace>,
) -> Result<Vec<(Attached, Vec<u8>)>, String> {
    let workspace = match workspace {
        _ if paths.is_empty() => return Ok(Vec::new()),
        _ if !granted.attachments => {
            return Err("Attachments are not granted. Put the text in the body.".to_owned());
        }
        None => return Err("This run has no workspace, so it has nothing to attach.".to_owned()),
        Some(workspace) => workspace,
    };
    if paths.len() > ATTACHMENTS_MAX {
        return Err(format!("At most {ATTACHMENTS_MAX} files can be attached."));
    }
    let mut left = granted.max_bytes;
    let mut files = Vec::new();
    for path in paths {
        let file = workspace.relative(path).and_then(|relative| workspace.read(&relative, left));
        let bytes = file.map_err(|error| unreadable(path, &error, granted.max_bytes))?.bytes;
        left -= bytes.len() as u64;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        files.push((Attached { path: path.clone(), hash, bytes: bytes.len() as u64 }, bytes));
    }
    Ok(files)
}

fn unreadable(path: &str, error: &PathError, bytes_max: u64) -> String {
    let path = visible_line(path);
    match error {
        PathError::TooLarge { .. } => {
            format!("`{path}` does not fit: a message has at most {bytes_max} bytes.")
        }
        error => format!("`{path}` {error}. Attach files by their paths from the workspace's root."),
    }
}
