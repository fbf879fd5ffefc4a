//! `send_email`: one plain text message, by SMTP, to people whom the owner names.
//!
//! Irreversible and external; `to`, `cc` and `bcc` are sinks, `subject` and `body` content. A person is shown the message as
//! it will be sent: all recipients, the subject, the attachments with sizes and hashes, and the body, with whatever cannot
//! be seen written out.
//!
//! **What the owner fixes:** the server, how it is spoken to (TLS from the start, STARTTLS that must succeed, or neither), the
//! user and password (a reference; never sent without TLS but to this machine), and the sender. **What the model says:**
//! recipients as bare addresses that fit the grant's patterns (no names, no quoted or routed addresses, so an address is what
//! it looks like), a subject on one line, a text, and files of the workspace where the grant allows them. It sets no header, and
//! line ends of every kind become the ones of SMTP, so it can end neither a header nor the message.
//!
//! **Attachments** are read when the call is planned and again when it is made; a file that changed in between is not sent.
//!
//! **The message id** is made from the call's idempotency key, so a second copy could be known by it. Mail marks itself as sent
//! by a program (`Auto-Submitted`), so that vacations do not answer.
//!
//! **What is unknown.** All recipients must be accepted before anything is sent: until the server says go on to DATA, and when
//! it refuses the message itself, nothing was sent, and the call failed. Once the message was on its way, silence, a timeout
//! or a lost connection is unknown. There is no probe: SMTP cannot be asked what became of a message.
//!
//! With STARTTLS, what a server says before the handshake is not protected; prefer TLS from the start.

mod deliver;
mod grant;
mod message;
mod postman;
mod tool;

pub use grant::{MailGrant, MailGrantError, MailTls};
pub use postman::Postman;

use backstop_agent::Tool;
use backstop_call::Secret;
use grant::Granted;
use std::sync::Arc;

/// The tool that a grant gives. `secret` gives the value of the reference in [`MailGrant::password`], or says why there is
/// none, without repeating it.
pub fn mail_tool(
    grant: &MailGrant,
    secret: &dyn Fn(&str) -> Result<Secret, String>,
) -> Result<Arc<dyn Tool>, MailGrantError> {
    Ok(Arc::new(tool::SendEmail::new(Granted::check(grant, secret)?)))
}
